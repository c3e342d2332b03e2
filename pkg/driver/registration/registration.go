// Package registration tells the kubelet that a CSI driver runs on its node, by
// serving a socket in the directory that the kubelet watches. It knows the name of
// the driver and where its socket is, and nothing of what the driver does.
package registration

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"time"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	"k8s.io/utils/clock"
)

// versions are those of CSI that the kubelet may speak with the driver.
var versions = []string{"1.0.0"}

// checkEvery is how often the socket is looked for. Cleaning the directory while
// the kubelet was down must not keep the driver unknown.
const checkEvery = 10 * time.Second

// Options configures a registration.
type Options struct {
	Driver   string // its name
	Endpoint string // the path of its socket, as the kubelet sees it
	Dir      string // the directory that the kubelet watches
	Clock    clock.WithTicker
}

// Run offers the driver to the kubelet until ctx ends. A kubelet that starts again
// finds it by itself.
func Run(ctx context.Context, o Options) error {
	path := filepath.Join(o.Dir, o.Driver+"-reg.sock")
	tick := o.Clock.NewTicker(checkEvery)
	defer tick.Stop()
	for {
		if err := serve(ctx, o, path, tick); err != nil || ctx.Err() != nil {
			return err
		}
		klog.FromContext(ctx).Info("Registering the driver anew: its socket was removed", "socket", path)
	}
}

// serve offers the driver until ctx ends or somebody removes the socket.
func serve(ctx context.Context, o Options, path string, tick clock.Ticker) error {
	listener, err := Listen(ctx, path)
	if err != nil {
		return err
	}
	server := grpc.NewServer()
	registerapi.RegisterRegistrationServer(server, &registration{options: o, log: klog.FromContext(ctx)})
	failed := make(chan error, 1)
	go func() { failed <- server.Serve(listener) }()
	defer server.Stop() // which removes the socket
	for {
		select {
		case <-ctx.Done():
			return nil
		case err := <-failed:
			return fmt.Errorf("serving the kubelet's registration at %s: %w", path, err)
		case <-tick.C():
			if _, err := os.Lstat(path); errors.Is(err, fs.ErrNotExist) {
				return nil
			}
		}
	}
}

// Listen listens on a Unix socket that nobody but the owner may use. What a process
// that died has left at path is removed, if it is a socket.
func Listen(ctx context.Context, path string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o750); err != nil {
		return nil, err
	}
	info, err := os.Lstat(path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
	case err != nil:
		return nil, err
	case info.Mode()&os.ModeSocket == 0:
		return nil, fmt.Errorf("listening at %s: there is something that is not a socket", path)
	default:
		if err := os.Remove(path); err != nil {
			return nil, err
		}
	}
	listener, err := (&net.ListenConfig{}).Listen(ctx, "unix", path)
	if err != nil {
		return nil, err
	}
	if err := os.Chmod(path, 0o600); err != nil {
		return nil, errors.Join(err, listener.Close())
	}
	return listener, nil
}

type registration struct {
	registerapi.UnimplementedRegistrationServer
	options Options
	log     klog.Logger
}

// GetInfo implements registerapi.RegistrationServer.
func (r *registration) GetInfo(context.Context, *registerapi.InfoRequest) (*registerapi.PluginInfo, error) {
	return &registerapi.PluginInfo{
		Type: registerapi.CSIPlugin, Name: r.options.Driver, Endpoint: r.options.Endpoint, SupportedVersions: versions,
	}, nil
}

// NotifyRegistrationStatus implements registerapi.RegistrationServer. The kubelet
// tries again by itself what failed.
func (r *registration) NotifyRegistrationStatus(_ context.Context, status *registerapi.RegistrationStatus) (*registerapi.RegistrationStatusResponse, error) {
	if status.GetPluginRegistered() {
		r.log.Info("The kubelet registered the driver", "driver", r.options.Driver)
	} else {
		r.log.Error(errors.New(status.GetError()), "The kubelet refused the driver", "driver", r.options.Driver)
	}
	return &registerapi.RegistrationStatusResponse{}, nil
}
