package guest

import (
	"context"
	"crypto/subtle"
	"fmt"
	"net"
	"slices"

	"github.com/open-local/open-local/hack/lab/wire"
)

// AgentPort is where a node takes commands, on its own address.
const AgentPort = "1010"

// Commands that a node carries out itself; others are programs.
const (
	// CommandImages loads the archives that are new in the directory of images.
	CommandImages = "@images"
	// CommandPowerOff switches the node off in order.
	CommandPowerOff = "@poweroff"
)

// listen runs commands for who shows the token, until ctx ends.
func (n *node) listen(ctx context.Context) error {
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", net.JoinHostPort(n.IP, AgentPort))
	if err != nil {
		return fmt.Errorf("listening for commands: %w", err)
	}
	stop := context.AfterFunc(ctx, func() { _ = listener.Close() })
	defer stop()
	for {
		conn, err := listener.Accept()
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			return fmt.Errorf("listening for commands: %w", err)
		}
		go n.answer(ctx, conn)
	}
}

// answer runs one command.
func (n *node) answer(ctx context.Context, stream net.Conn) {
	defer stream.Close()
	conn := wire.New(stream, stream)
	command, err := conn.Request()
	if err != nil {
		n.say("%v", err)
		return
	}
	if err := conn.WriteJSON(wire.Exit, n.carryOut(ctx, conn, command)); err != nil {
		n.say("answering a command: %v", err)
	}
	if slices.Equal(command.Argv, []string{CommandPowerOff}) && n.allowed(command) {
		n.off()
	}
}

func (n *node) allowed(command wire.Command) bool {
	return subtle.ConstantTimeCompare([]byte(command.Token), []byte(n.Token)) == 1
}

func (n *node) carryOut(ctx context.Context, conn *wire.Conn, command wire.Command) wire.Result {
	if !n.allowed(command) {
		return wire.Result{Code: 126, Error: "the token is wrong"}
	}
	switch {
	case slices.Equal(command.Argv, []string{CommandPowerOff}):
		return wire.Result{}
	case slices.Equal(command.Argv, []string{CommandImages}):
		if err := awaitSocket(ctx, containerdSocket); err != nil {
			return wire.Result{Code: 1, Error: err.Error()}
		}
		if err := n.loadImages(ctx, every); err != nil {
			return wire.Result{Code: 1, Error: err.Error()}
		}
		return wire.Result{}
	}
	command.Env = append(environment(n.Config), command.Env...)
	return wire.Run(ctx, conn, command)
}
