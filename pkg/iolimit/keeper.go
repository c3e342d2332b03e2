package iolimit

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"maps"
	"slices"
	"sync"
	"time"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/volume"
)

// files tells the number of a device by its file: devfile.Root.
type files interface {
	Look(path string) (devfile.File, error)
}

// book knows what is kept with each volume, whatever was asked when it was made.
type book interface {
	Limits(id string) volume.LimitChange
	// Changed has an element when something in the book changed.
	Changed() <-chan struct{}
}

// Keeper holds the devices of the volumes that are in use to the volumes' limits. What
// takes a limit away, such as a cgroup that is made anew, or a device that comes back
// with another number, it makes good by looking again and again. Looking reads a few
// files and nothing else.
type Keeper struct {
	root  Root
	files files
	book  book

	mu   sync.Mutex     // guards used and is held while limits are set
	used map[string]use // by volume
}

// use is a volume in use.
type use struct {
	path   string // of its device
	device uint64 // its number when it was last seen; 0 when it was not yet
	asked  volume.Limits
	over   bool // it has ended, and its limits are still to be taken off
}

// NewKeeper returns a Keeper of the cgroups at root.
func NewKeeper(root Root, files files, book book) *Keeper {
	return &Keeper{root: root, files: files, book: book, used: map[string]use{}}
}

// Use says that the volume is in use, by the device at path, and holds it to its
// limits: those that are kept with it, else those asked. ErrUnsupported and ErrNoPods
// say that there is a limit and that it does not hold now; should it become possible,
// it will.
func (k *Keeper) Use(ctx context.Context, id, path string, asked volume.Limits) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.used[id] = use{path: path, asked: asked}
	return k.settle(ctx, id)
}

// Release says that the volume is in use no more, and takes its limits off. Should that
// fail, Look tries again, as does another Release.
func (k *Keeper) Release(ctx context.Context, id string) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	u, known := k.used[id]
	if !known {
		return nil
	}
	u.over = true
	k.used[id] = u
	return k.end(ctx, id)
}

// Resume says which volumes were in use before this process began: the paths of their
// devices, by volume.
func (k *Keeper) Resume(open map[string]string) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for id, path := range open {
		if _, known := k.used[id]; !known {
			k.used[id] = use{path: path}
		}
	}
}

// Found is which volumes there are when a process begins: the paths of their devices, by
// volume.
type Found struct {
	Used map[string]string // somebody is shown them
	Idle map[string]string // nobody is
}

// TakeOver goes on with what a former process was doing. find tells what there is, given
// what each device, by its number, is held to; no use begins or ends meanwhile. Look then
// holds those that are used to their limits, and takes off what was left on idle ones,
// which are never held to anything. If no limits are kept with a volume that is used, only
// whoever asked for them knew: it stays held to what it is.
func (k *Keeper) TakeOver(find func(held map[uint64]Line) (Found, error)) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	held, err := k.root.Lines()
	if err != nil && !cannot(err) {
		return err
	}
	found, err := find(held)
	if err != nil {
		return err
	}
	take := func(id string, u use) {
		if _, known := k.used[id]; !known {
			k.used[id] = u
		}
	}
	for id, path := range found.Used {
		u := use{path: path}
		if k.book.Limits(id) == (volume.LimitChange{}) {
			if file, err := k.files.Look(path); err == nil {
				u.asked = held[file.Device].limits()
			}
		}
		take(id, u)
	}
	for id, path := range found.Idle {
		take(id, use{path: path, over: true})
	}
	return nil
}

// Run looks after every limit so often, and whenever the book changed, until ctx ends.
func (k *Keeper) Run(ctx context.Context, clock clock.WithTicker, every time.Duration) {
	ticker := clock.NewTicker(every)
	defer ticker.Stop()
	said := ""
	for {
		// The same complaint every few seconds helps nobody.
		if err := k.Look(ctx); err != nil && err.Error() != said {
			said = err.Error()
			klog.FromContext(ctx).Error(err, "Limits of volumes do not hold")
		} else if err == nil {
			said = ""
		}
		select {
		case <-ctx.Done():
			return
		case <-k.book.Changed():
		case <-ticker.C():
		}
	}
}

// Look holds every volume in use to its limits, once, and takes off those of volumes that
// are not any more.
func (k *Keeper) Look(ctx context.Context) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	problems := map[string]error{}
	for id, u := range k.used {
		do := k.settle
		if u.over {
			do = k.end
		}
		if err := do(ctx, id); err != nil {
			problems[err.Error()] = err // that the node cannot limit is one problem
		}
	}
	var errs []error
	for _, text := range slices.Sorted(maps.Keys(problems)) {
		errs = append(errs, problems[text])
	}
	return errors.Join(errs...)
}

// settle finds the number that the volume's device has now and sets its limits; k.mu
// is held. A device that is not there has nothing to limit.
func (k *Keeper) settle(ctx context.Context, id string) error {
	u := k.used[id]
	file, err := k.files.Look(u.path)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err != nil:
		return fmt.Errorf("looking at the device of volume %s: %w", id, err)
	case file.Device == 0:
		return fmt.Errorf("limiting volume %s: %s is not a block device", id, u.path)
	}
	u.device = file.Device // the kernel dropped the limits of the former with it
	k.used[id] = u
	return k.set(ctx, u.device)
}

// end takes the limits of a volume off whose use is over, and forgets it once they are;
// k.mu is held. A device that is not there has none.
func (k *Keeper) end(ctx context.Context, id string) error {
	u := k.used[id]
	if u.device == 0 {
		file, err := k.files.Look(u.path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("looking at the device of volume %s: %w", id, err)
		}
		u.device = file.Device
	}
	if u.device != 0 {
		if err := k.set(ctx, u.device); err != nil {
			return err
		}
	}
	delete(k.used, id)
	return nil
}

// set holds the device to the tightest limits of the volumes that use it: several can
// show the same snapshot. k.mu is held.
func (k *Keeper) set(ctx context.Context, device uint64) error {
	var limits volume.Limits
	for id, u := range k.used {
		if u.device == device && !u.over {
			its := k.book.Limits(id).Of(u.asked)
			limits.BPS, limits.IOPS = tighter(limits.BPS, its.BPS), tighter(limits.IOPS, its.IOPS)
		}
	}
	changed, err := k.root.Set(device, limits)
	switch {
	case cannot(err) && limits == volume.Limits{}:
		return nil // as is wanted
	case err != nil:
		return fmt.Errorf("limiting device %d:%d to %d bytes and %d operations a second (0: no limit): %w",
			unix.Major(device), unix.Minor(device), limits.BPS, limits.IOPS, err)
	case changed:
		klog.FromContext(ctx).Info("Limited a device", "major", unix.Major(device), "minor", unix.Minor(device), "bps", limits.BPS, "iops", limits.IOPS)
	}
	return nil
}

// cannot reports whether err says that a limit does not hold now, whatever it is.
func cannot(err error) bool { return errors.Is(err, ErrUnsupported) || errors.Is(err, ErrNoPods) }

// tighter returns the smaller limit; zero is none.
func tighter(a, b int64) int64 {
	if a == 0 || b == 0 {
		return max(a, b)
	}
	return min(a, b)
}
