package cluster

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/hack/lab/build"
	"github.com/open-local/open-local/hack/lab/daemon"
	"github.com/open-local/open-local/hack/lab/image"
	"github.com/open-local/open-local/hack/lab/kernel"
	"github.com/open-local/open-local/hack/lab/machine"
	"github.com/open-local/open-local/hack/lab/vm"
)

// Up brings a cluster up and returns when its nodes are ready and have their
// images. A lab that runs already is returned as it is. What an earlier lab left
// in the directory is removed first. If Up fails or ctx ends, nothing runs.
func Up(ctx context.Context, options Options) (*Cluster, error) {
	o, err := options.check()
	if err != nil {
		return nil, err
	}
	if c := answering(ctx, o.Dir); c != nil {
		fmt.Fprintf(o.Progress, "the lab in %s is running already, with %d nodes; it is used as it is\n", o.Dir, len(c.Nodes()))
		return c, nil
	}
	if err := machine.Prepare(ctx, append(machine.VM, machine.Cluster...), []string{machine.Tun}, o.Progress); err != nil {
		return nil, err
	}
	kernel.Fetch(ctx, o.Progress)
	unlock, err := lock(ctx, o.Dir)
	if err != nil {
		return nil, err
	}
	defer unlock()
	if c := answering(ctx, o.Dir); c != nil { // another Up was faster
		return c, nil
	}
	if err := errors.Join(remove(o.Dir), os.RemoveAll(filepath.Join(o.Dir, "log"))); err != nil {
		return nil, err
	}
	c := &Cluster{config: daemon.Config{
		Dir: o.Dir, Runtime: runtimeDir(o.Dir), Nodes: o.Nodes, Disks: o.disks, Memory: o.memory,
		SCSI: len(o.scsi),
	}}
	if len(o.scsi) > 0 {
		c.config.SCSISize = o.scsi[0]
	}
	if err := c.furnish(ctx, o); err != nil {
		return nil, errors.Join(err, remove(o.Dir))
	}
	started := time.Now()
	err = c.launch()
	if err == nil {
		err = c.await(ctx, o.Progress, started)
	}
	if err != nil {
		// The logs tell why; they stay.
		return nil, errors.Join(err, c.Down(context.WithoutCancel(ctx)))
	}
	return c, nil
}

// answering returns the lab in dir, or nil if there is none or it is dead or
// dying: then it is to be replaced.
func answering(ctx context.Context, dir string) *Cluster {
	c, err := Open(dir)
	if err != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if _, err := c.Status(ctx); err != nil {
		return nil
	}
	return c
}

// furnish makes everything that the daemon reads.
func (c *Cluster) furnish(ctx context.Context, o checked) error {
	for _, dir := range []string{o.Dir, c.config.Runtime, c.config.Programs(), c.config.Images(), c.config.Logs()} {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return fmt.Errorf("making the lab's directories: %w", err)
		}
	}
	cache, err := build.Open(o.Progress)
	if err != nil {
		return err
	}
	programs, err := cache.Get(ctx, build.Names()...)
	if err != nil {
		return err
	}
	kinds, err := cache.SnapshotKinds(ctx)
	if err != nil {
		return err
	}
	c.config.Readable = []string{cache.Dir}
	if err := errors.Join(c.addKinds(kinds), c.addPrograms(programs)); err != nil {
		return err
	}
	group, ctxOwn := errgroup.WithContext(ctx)
	group.Go(func() error { return build.Own(ctxOwn, "guest/init", c.Program("init")) })
	group.Go(func() error { return build.Own(ctxOwn, ".", c.Program("lab")) })
	kept := filepath.Dir(cache.Dir)
	archives, err := image.Standard(ctx, filepath.Join(kept, "images"), programs)
	if err = errors.Join(err, group.Wait()); err != nil {
		return err
	}
	if err := c.addImages(archives); err != nil {
		return err
	}
	if c.config.Seed, err = (seeder{filepath.Join(kept, "seeds"), c.config, o.Progress}).seed(ctx); err != nil {
		return err
	}
	if err := c.addImages(o.Images); err != nil {
		return err
	}
	if err := c.config.Secure(); err != nil {
		return err
	}
	scheduler := o.scheduler
	if scheduler == "" {
		scheduler = c.config.SchedulerConfig()
	}
	return c.writeSchedulerConfig(scheduler)
}

// addPrograms puts programs, by their names, where the daemon runs them from.
func (c *Cluster) addPrograms(programs map[string]string) error {
	for name, file := range programs {
		if err := os.Symlink(file, filepath.Join(c.config.Programs(), name)); err != nil {
			return fmt.Errorf("linking %s: %w", name, err)
		}
	}
	return nil
}

// addImages puts archives where nodes load them from.
func (c *Cluster) addImages(archives []string) error {
	for _, archive := range archives {
		if err := c.addImage(archive); err != nil {
			return err
		}
	}
	return nil
}

// launch starts the daemon in namespaces of its own. The API server's door on
// the host is opened here, because a listener belongs to the network namespace
// in which it was made.
func (c *Cluster) launch() error {
	outside, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return fmt.Errorf("opening a port for the API server: %w", err)
	}
	defer outside.Close()
	c.config.Port = outside.Addr().(*net.TCPAddr).Port
	if err := c.config.Write(); err != nil {
		return err
	}
	kubeconfig := c.config.Kubeconfig(fmt.Sprintf("https://127.0.0.1:%d", c.config.Port), "admin", c.config.Admin)
	if err := os.WriteFile(c.Kubeconfig(), []byte(kubeconfig), 0o600); err != nil {
		return fmt.Errorf("writing the kubeconfig: %w", err)
	}
	door, err := outside.(*net.TCPListener).File()
	if err != nil {
		return fmt.Errorf("handing over the port of the API server: %w", err)
	}
	defer door.Close()
	log, err := os.OpenFile(filepath.Join(c.config.Logs(), "lab.log"), os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("opening the lab's log: %w", err)
	}
	defer log.Close()
	cmd := exec.Command(filepath.Join(c.config.Programs(), "lab"), "daemon", "--dir", c.config.Dir)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.ExtraFiles = []*os.File{door}
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Setsid:     true,
		Cloneflags: unix.CLONE_NEWNET | unix.CLONE_NEWNS | unix.CLONE_NEWIPC | unix.CLONE_NEWUTS,
	}
	vm.Contain(cmd, filepath.Join(c.config.Programs(), "init"), nil)
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("starting the lab: %w: it needs process, network and mount namespaces; run it as root, in a container with all privileges", err)
	}
	if err := writeProcess(c.config.Dir, cmd.Process.Pid); err != nil {
		return errors.Join(err, cmd.Process.Kill())
	}
	go func() { _ = cmd.Wait() }() // collected here while this process lives
	return nil
}

// await waits until everything is ready and says what is.
func (c *Cluster) await(ctx context.Context, progress io.Writer, started time.Time) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	say := func(what string) {
		fmt.Fprintf(progress, "%s (%.1f s)\n", what, time.Since(started).Seconds())
	}
	reach := func(what string, done func(context.Context) (bool, error)) error {
		if err := c.poll(ctx, done); err != nil {
			return fmt.Errorf("waiting for: %s: %w; see the logs in %s", what, err, c.config.Logs())
		}
		say(what)
		return nil
	}
	if err := reach("control plane ready", c.apiReady); err != nil {
		return err
	}
	if err := c.defineKinds(ctx); err != nil { // while the nodes still boot
		return err
	}
	if err := reach(strings.Join(c.Nodes(), ", ")+" ready", c.nodesReady); err != nil {
		return err
	}
	if err := c.loadEverywhere(ctx); err != nil {
		return err
	}
	say("images loaded")
	return nil
}

// poll asks again and again. The last thing that was wrong is part of the error
// when time is over.
func (c *Cluster) poll(ctx context.Context, done func(context.Context) (bool, error)) error {
	ticker := time.NewTicker(100 * time.Millisecond)
	defer ticker.Stop()
	for {
		ok, err := done(ctx)
		if ok {
			return nil
		}
		if alive, _ := running(c.config.Dir); !alive {
			return errors.Join(errors.New("the lab ended"), err)
		}
		select {
		case <-ctx.Done():
			return errors.Join(context.Cause(ctx), err)
		case <-ticker.C:
		}
	}
}
