// Command demo shows open-local at work to somebody who has never seen it: a real
// cluster with real volume groups, a StatefulSet placed by capacity, its volume on
// the node, what becomes of volumes over time, and everything gone again. It types what a user would type, shows
// what a user would see, and fails when what is seen is not what it should be.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"
)

func main() {
	var d demo
	flag.StringVar(&d.lab, "lab", "_output/bin/lab", "the program that runs the lab")
	flag.StringVar(&d.dir, "dir", "_output/demo", "where the lab keeps its state")
	flag.StringVar(&d.image, "image", "_output/image/open-local.tar", "the image of open-local, as made by make image")
	flag.BoolVar(&d.keep, "keep", os.Getenv("KEEP") == "1", "leave the cluster up at the end")
	flag.Parse()

	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := d.run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}

// run is the whole story. The cluster is taken down at its end, however it ends,
// unless it was asked to stay.
func (d *demo) run(ctx context.Context) (err error) {
	if d.lab, err = filepath.Abs(d.lab); err != nil {
		return err
	}
	started := time.Now()
	defer func() { err = errors.Join(err, d.end(context.WithoutCancel(ctx), started, err)) }()
	for _, chapter := range []struct {
		title string
		tell  func(context.Context) error
	}{
		{"A Kubernetes cluster with two nodes; each has two blank disks", d.cluster},
		{"Install open-local", d.install},
		{"Say what the disks are for", d.configure},
		{"A StatefulSet whose claim is cut from the node's own disk", d.volume},
		{"Scale it up, and down again", d.scale},
		{"Grow its volume from 5Gi to 20Gi while it runs", d.grow},
		{"Take a snapshot, restore it, and clone a volume", d.snapshot},
		{"A raw block device", d.block},
		{"Limit what a volume reads and writes, and change the limit", d.throttle},
		{"Volumes that live and die with their pods", d.ephemeral},
		{"Remove it without a trace", d.remove},
	} {
		d.chapter(chapter.title, time.Since(started))
		if err := chapter.tell(ctx); err != nil {
			return fmt.Errorf("%s: %w", chapter.title, err)
		}
	}
	return nil
}

func (d *demo) end(ctx context.Context, started time.Time, failure error) error {
	if d.keep {
		d.chapter("The cluster stays up", time.Since(started))
		fmt.Printf("Use it with\n\n  %[1]s --dir %[2]s kubectl get nls\n  %[1]s --dir %[2]s exec n1 -- lvs\n\nand take it down with\n\n  %[1]s --dir %[2]s down\n",
			d.lab, d.dir)
		return nil
	}
	if failure == nil {
		d.chapter("Done", time.Since(started))
		fmt.Println("Everything is as it was before. KEEP=1 make demo leaves the cluster up for you.")
	}
	return d.quietly(ctx, "down")
}
