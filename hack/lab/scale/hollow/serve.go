package hollow

import (
	"context"
	"fmt"
	"net"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/nodeapi"
	"github.com/open-local/open-local/pkg/tlsfiles"
)

// Serve answers for all nodes at that port until ctx ends. keys is the directory of their
// certificate.
func (f *Fleet) Serve(ctx context.Context, port int, keys string) error {
	config, err := tlsfiles.Server(filepath.Join(keys, "tls.crt"), filepath.Join(keys, "tls.key"), filepath.Join(keys, "ca.crt"))
	if err != nil {
		return err
	}
	// Every address of 127.0.0.0/8 is this machine's, and none can be reached from outside.
	listening := net.ListenConfig{Control: func(_, _ string, raw syscall.RawConn) error {
		var wrong error
		if err := raw.Control(func(fd uintptr) { wrong = unix.BindToDevice(int(fd), "lo") }); err != nil {
			return err
		}
		return wrong
	}}
	listener, err := listening.Listen(ctx, "tcp4", fmt.Sprintf(":%d", port))
	if err != nil {
		return fmt.Errorf("listening for calls of nodes: %w", err)
	}
	server := nodeapi.NewServer(f, config, nodeapi.DefaultClientName)
	stop := context.AfterFunc(ctx, server.Stop)
	defer stop()
	return server.Serve(listener)
}
