package provisiontest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/lvm"
)

// ErrKilled is what a process meets wherever it turns after a Killer struck.
var ErrKilled = errors.New("the process died")

// A Killer ends the process of a test at one of the points that it passes. A process
// that is dead does nothing more: it is killed at each later point as well, until
// Revive is called. Its methods may be called from any goroutine.
type Killer struct {
	mu      sync.Mutex // guards what follows
	aiming  bool
	at      int    // how many points are passed before it strikes
	passed  int    // since Aim
	struck  string // the point where it struck
	passing []string
}

// Aim has the Killer count points from now on.
func (k *Killer) Aim() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.aiming = true
}

// Revive lets everything pass from now on, for the process that follows.
func (k *Killer) Revive() {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.aiming = false
}

// Struck returns the point at which the Killer struck, and "" if it did not.
func (k *Killer) Struck() string {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.struck
}

// Pass returns ErrKilled if the process dies at that point or has died before.
func (k *Killer) Pass(point string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.aiming {
		return nil
	}
	if k.struck == "" {
		k.passing = append(k.passing, point)
		if k.passed < k.at {
			k.passed++
			return nil
		}
		k.struck = point
	}
	return fmt.Errorf("at the point %q: %w", k.struck, ErrKilled)
}

// Everywhere lives life again and again, and each time its Killer strikes one point
// later, until life passes no more points. life prepares what it needs, calls Aim,
// does what is to be cut short, calls Revive, repeats and checks. The last time nothing
// is cut short. It returns how many points there are.
func Everywhere(t *testing.T, life func(t *testing.T, k *Killer)) (points int) {
	t.Helper()
	for ; ; points++ {
		k := &Killer{at: points}
		life(t, k)
		if k.Struck() == "" {
			t.Logf("%d points to die at: %s", points, strings.Join(k.passing, ", "))
			return points
		}
		if t.Failed() {
			t.Fatalf("failed after death number %d, %s", points, k.Struck())
		}
	}
}

// A Crash is an operation of a Node that is cut short.
type Crash struct {
	Node    func(t testing.TB) *Node // a fresh one
	Prepare func(t *testing.T, n *Node)
	// Step is the operation. Where it is killed, it must say so.
	Step func(n *Node) error
	// Check repeats and checks, on the node whose process was started anew.
	Check func(t *testing.T, n *Node)
}

// Everywhere tries the operation with a death before, within and after each process
// that it starts, and while it zeroes. It returns how many such points there are.
func (c Crash) Everywhere(t *testing.T) (points int) {
	t.Helper()
	return Everywhere(t, func(t *testing.T, k *Killer) {
		t.Helper()
		n := c.Node(t)
		n.Use(k)
		if c.Prepare != nil {
			c.Prepare(t, n)
		}
		k.Aim()
		err := c.Step(n)
		if died := k.Struck() != ""; errors.Is(err, ErrKilled) != died {
			t.Errorf("died %q, and the operation says %v", k.Struck(), err)
		}
		n.Close() // what goes on behind the call dies with it
		k.Revive()
		n.Restart()
		c.Check(t, n)
	})
}

// Use lets k end the processes of n.
func (n *Node) Use(k *Killer) {
	n.killer = k
	zeroing := n.Devices.Zeroing
	n.Devices.Zeroing = func(ctx context.Context, path string) error {
		if err := k.Pass("zeroing"); err != nil || zeroing == nil {
			return err
		}
		return zeroing(ctx, path)
	}
	n.Devices.Discarding = func(context.Context, string) error { return k.Pass("discarding") }
	n.Devices.Copying = func(context.Context, string, string) error { return k.Pass("copying") }
	n.Devices.Renewing = func(context.Context, string) error { return k.Pass("renewing") }
}

// mortal is the fake, each process of which is a chance to die.
func (n *Node) mortal() hostexec.Runner {
	return hostexec.RunnerFunc(func(ctx context.Context, name string, args ...string) ([]byte, error) {
		if n.dead.Load() {
			return nil, ErrKilled
		}
		if n.killer == nil || len(args) == 0 {
			out, err := n.Run(ctx, name, args...)
			if once, is := n.after.LoadAndDelete(name + " " + args[0]); is {
				once.(func())()
			}
			return out, err
		}
		command := name + " " + args[0]
		if err := n.killer.Pass("before " + command); err != nil {
			return nil, err
		}
		if err := n.begin(args); err != nil {
			return nil, err
		}
		stood := n.Volumes()
		out, err := n.Run(ctx, name, args...)
		if err == nil && args[0] == "lvcreate" {
			if died := n.created(stood, slices.Contains(args, "--snapshot")); died != nil {
				return nil, died
			}
		}
		if died := n.killer.Pass("after " + command); died != nil {
			return nil, died
		}
		return out, err
	})
}

// begin is the point within an lvremove: it deactivates a volume before it removes it.
func (n *Node) begin(args []string) error {
	if args[0] != "lvremove" {
		return nil
	}
	died := n.killer.Pass("within lvm lvremove")
	if died == nil {
		return nil
	}
	_, _ = n.Run(context.Background(), "lvm", "lvchange", "--activate", "n", "--", args[len(args)-1])
	return died
}

// Former is what a volume begins with that nobody cleared.
const Former = "what a former tenant left"

// created are the points within an lvcreate: first the volume is there, then it is
// cleared, and device files come last. One that becomes a snapshot is no snapshot before
// it is cleared.
func (n *Node) created(stood []string, snapshot bool) error {
	made := slices.DeleteFunc(n.Volumes(), func(path string) bool { return slices.Contains(stood, path) })
	if died := n.killer.Pass("within lvm lvcreate, before it clears the volume"); died != nil {
		for _, path := range made {
			group, name, _ := strings.Cut(path, "/")
			if snapshot {
				n.Part(group, name)
				continue
			}
			n.Devices.leave(lvm.DevicePath(group, name))
		}
		return died
	}
	died := n.killer.Pass("within lvm lvcreate, before there is a device file")
	if died == nil {
		return nil
	}
	for _, path := range made {
		group, name, _ := strings.Cut(path, "/")
		n.Unlink(group, name)
	}
	return died
}

// After has something happen once, when the next process of that kind, such as
// "lvm lvchange", has ended and before its caller hears of it.
func (n *Node) After(command string, happens func()) { n.after.Store(command, happens) }

// Kill ends the process of n for good: whatever it still does fails. Restart begins
// another.
func (n *Node) Kill() {
	n.dead.Store(true)
}
