package exclusive

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
	"github.com/open-local/open-local/pkg/wipe"
)

const gib = capacity.GiB

// host is a node with disks, and what is on each.
type host struct {
	disks  []blockdev.Device
	on     map[string]string // by identity: "ext4", "bytes" for what nobody recognises
	broken map[string]error  // by what fails: "devices", "inspect", "wipe", "wiped", "zero"
}

func (h *host) fails(what string) error {
	err := h.broken[what]
	delete(h.broken, what)
	return err
}

func (h *host) Devices(context.Context) ([]blockdev.Device, error) {
	return slices.Clone(h.disks), h.fails("devices")
}

func (h *host) at(path string) blockdev.Device {
	for _, d := range h.disks {
		if d.Path == path {
			return d
		}
	}
	return blockdev.Device{}
}

func (h *host) Inspect(_ context.Context, path string) (blockdev.Evidence, error) {
	d := h.at(path)
	e := blockdev.Evidence{Path: path, Exists: d.Path != "", IsBlock: true, Type: "disk", Size: d.Size, Major: d.Major, Minor: d.Minor, ReadOnly: d.ReadOnly}
	switch what := h.on[d.ID]; what {
	case "", "bytes": // which lie between its ends
	case "data":
		e.Data = "in its first MiB"
	default:
		e.Signatures = []blockdev.Signature{{Type: what}}
	}
	return e, h.fails("inspect")
}

func (h *host) Wipe(_ context.Context, order wipe.Order, _ progress) error {
	if err := h.fails("wipe"); err != nil {
		return err
	}
	delete(h.on, h.at(order.Path).ID)
	return h.fails("wiped")
}

func (h *host) zero(_ context.Context, path string, _ uint64, _ progress) error {
	if err := h.fails("zero"); err != nil {
		return err
	}
	delete(h.on, h.at(path).ID)
	return nil
}

type bench struct {
	*testing.T
	host *host
	root string
}

func newBench(t *testing.T) bench {
	t.Helper()
	return bench{t, &host{on: map[string]string{}, broken: map[string]error{}, disks: []blockdev.Device{
		{Path: "/dev/sda", ID: "wwn-1", Size: 10 * gib, Major: 8, Minor: 0},
		{Path: "/dev/sdb", ID: "wwn-2", Size: 20 * gib, Major: 8, Minor: 16},
	}}, t.TempDir()}
}

// devices is a process that has just started.
func (b bench) devices() *Devices {
	return &Devices{Book: NewBook(b.root), Host: b.host, Wiper: b.host, Zero: b.host.zero}
}

func quietly(capacity.Bytes, capacity.Bytes) {}

func (b bench) take(want Want) (Taken, error) { return b.devices().Take(b.Context(), want, quietly) }

func (b bench) mustTake(want Want) Taken {
	b.Helper()
	taken, err := b.take(want)
	if err != nil {
		b.Fatal(err)
	}
	return taken
}

func (b bench) release(ref Ref) error {
	return b.devices().Release(b.Context(), ref, quietly)
}

func wantError(t *testing.T, got, want error) {
	t.Helper()
	if !errors.Is(got, want) {
		t.Errorf("got %v, want %v", got, want)
	}
}

func TestADeviceIsTakenFoundAndReleased(t *testing.T) {
	b := newBench(t)
	want := Want{Volume: "v", ID: "wwn-2", Size: 15 * gib}
	taken := b.mustTake(want)
	if diff := cmp.Diff(Taken{
		Record: Record{Volume: "v", Kind: volume.Device, ID: "wwn-2", Path: "/dev/sdb", Size: 20 * gib, State: Ready}, Path: "/dev/sdb", Major: 8, Minor: 16,
	}, taken); diff != "" {
		t.Errorf("taken (-want +got):\n%s", diff)
	}
	b.host.on["wwn-2"] = "ext4" // its file system
	if again := b.mustTake(want); !cmp.Equal(taken, again) {
		t.Errorf("again: %+v", again)
	}
	found, err := b.devices().Find(t.Context(), Ref{Volume: "v", ID: "wwn-2", Path: "/dev/sdb"})
	if err != nil || !cmp.Equal(taken, found) {
		t.Errorf("found %+v, %v", found, err)
	}
	must(t, b.release(Ref{Volume: "v", ID: "wwn-2", Path: "/dev/sdb"}))
	must(t, b.release(Ref{Volume: "v", ID: "wwn-2", Path: "/dev/sdb"})) // again
	if all, err := NewBook(b.root).List(); err != nil || len(all) != 0 {
		t.Errorf("left over %+v, %v", all, err)
	}
	b.mustTake(Want{Volume: "next", ID: "wwn-2", Size: gib})
	must(t, b.release(Ref{Volume: "v", ID: "wwn-2", Path: "/dev/sdb"})) // its next tenant keeps it
	if _, err := b.devices().Find(t.Context(), Ref{Volume: "next"}); err != nil {
		t.Error(err)
	}
}

func TestWhatCannotBeTaken(t *testing.T) {
	b := newBench(t)
	b.mustTake(Want{Volume: "v", ID: "wwn-2", Size: gib})
	b.host.disks = append(b.host.disks,
		blockdev.Device{Path: "/dev/sdc", ID: "same", Size: gib}, blockdev.Device{Path: "/dev/sdd", ID: "same", Size: gib},
		blockdev.Device{Path: "/dev/sde", ID: "full", Size: gib}, blockdev.Device{Path: "/dev/sdf", ID: "ro", Size: gib, ReadOnly: true},
		blockdev.Device{Path: "/dev/sdg", ID: "small", Size: gib})
	b.host.on["full"], b.host.on["wwn-1"] = "xfs", "data"
	for name, tc := range map[string]struct {
		want Want
		err  error
	}{
		"one that another volume has":         {Want{Volume: "w", ID: "wwn-2"}, ErrTaken},
		"another one for the same volume":     {Want{Volume: "v", ID: "wwn-1"}, ErrConflict},
		"the same with more room":             {Want{Volume: "v", ID: "wwn-2", Size: 30 * gib}, ErrConflict},
		"the same as a block volume":          {Want{Volume: "v", ID: "wwn-2", Block: true}, ErrConflict},
		"one that is not there":               {Want{Volume: "w", ID: "wwn-9"}, ErrGone},
		"one that is there twice":             {Want{Volume: "w", ID: "same"}, ErrOther},
		"one that is too small":               {Want{Volume: "w", ID: "small", Size: 11 * gib}, ErrTooSmall},
		"one that holds something":            {Want{Volume: "w", ID: "full"}, ErrNotFit},
		"one that holds what nobody knows":    {Want{Volume: "w", ID: "wwn-1"}, ErrNotFit},
		"one that is read-only":               {Want{Volume: "w", ID: "ro"}, ErrNotFit},
		"one that nothing tells from another": {Want{Volume: "w"}, ErrNotFit},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := b.take(tc.want)
			wantError(t, err, tc.err)
			if _, stands, err := NewBook(b.root).Get("w"); stands || err != nil {
				t.Errorf("it is remembered all the same, %v", err)
			}
		})
	}
}

func TestADeviceIsFoundByWhoItIs(t *testing.T) {
	b := newBench(t)
	b.mustTake(Want{Volume: "a", ID: "wwn-1"})
	b.mustTake(Want{Volume: "b", ID: "wwn-2"})
	b.host.on["wwn-1"], b.host.on["wwn-2"] = "ext4", "xfs"
	b.host.disks[0].Path, b.host.disks[1].Path = "/dev/sdb", "/dev/sda" // they come up under each other's names
	for volume, path := range map[string]string{"a": "/dev/sdb", "b": "/dev/sda"} {
		if found, err := b.devices().Find(t.Context(), Ref{Volume: volume}); err != nil || found.Path != path {
			t.Errorf("volume %s: %+v, %v", volume, found, err)
		}
	}
	must(t, b.release(Ref{Volume: "a", ID: "wwn-1", Path: "/dev/sda"}))
	if diff := cmp.Diff(map[string]string{"wwn-2": "xfs"}, b.host.on); diff != "" {
		t.Errorf("what is on the disks (-want +got):\n%s", diff)
	}
	// The disk goes, and another is plugged in that gets its name.
	b.host.disks[1].ID = "wwn-3"
	b.host.on["wwn-3"] = "ext4"
	_, err := b.devices().Find(t.Context(), Ref{Volume: "b", ID: "wwn-2", Path: "/dev/sda"})
	wantError(t, err, ErrGone)
	wantError(t, b.release(Ref{Volume: "b", ID: "wwn-2", Path: "/dev/sda"}), ErrGone)
	if b.host.on["wwn-3"] != "ext4" {
		t.Error("another disk was wiped")
	}
	// A PersistentVolume that says something else than the node is believed as little.
	_, err = b.devices().Find(t.Context(), Ref{Volume: "b", ID: "wwn-3"})
	wantError(t, err, ErrOther)
	wantError(t, b.release(Ref{Volume: "b", ID: "wwn-3"}), ErrOther)
}

func TestANodeThatWasInstalledAnewServesAndDestroysNothing(t *testing.T) {
	b := newBench(t)
	b.host.on["wwn-1"] = "ext4"
	ref := Ref{Volume: "v", ID: "wwn-1", Path: "/dev/sda"}
	if found, err := b.devices().Find(t.Context(), ref); err != nil || found.Path != "/dev/sda" {
		t.Errorf("found %+v, %v", found, err)
	}
	wantError(t, b.release(ref), ErrNotOurs)
	if b.host.on["wwn-1"] != "ext4" {
		t.Error("it was wiped")
	}
	// Until it is asked to destroy it, it has the device be that volume's.
	_, err := b.devices().Find(t.Context(), ref)
	must(t, err)
	b.host.on["wwn-1"] = "" // as a block volume that was never written to
	_, err = b.take(Want{Volume: "w", ID: "wwn-1"})
	wantError(t, err, ErrTaken)
	must(t, b.release(ref))
	b.mustTake(Want{Volume: "w", ID: "wwn-1"})
}

func TestAVolumeOfTheFirstOpenLocalKeepsTheDeviceThatHadItsName(t *testing.T) {
	for name, tc := range map[string]struct {
		ref  Ref
		edit func(h *host)
		err  error
	}{
		"a device with a file system":         {Ref{Volume: "v", Path: "/dev/sda"}, func(h *host) { h.on["wwn-1"] = "ext4" }, nil},
		"a device with a database of its own": {Ref{Volume: "v", Path: "/dev/sda"}, func(h *host) { h.on["wwn-1"] = "data" }, nil},
		"a device that shows nothing":         {Ref{Volume: "v", Path: "/dev/sda"}, func(*host) {}, nil},
		"no name at all":                      {Ref{Volume: "v"}, func(*host) {}, ErrNotOurs},
		"a name that nothing has":             {Ref{Volume: "v", Path: "/dev/sdz"}, func(*host) {}, ErrGone},
		"a device that nothing tells apart":   {Ref{Volume: "v", Path: "/dev/sda"}, func(h *host) { h.disks[0].ID = "" }, ErrNotOurs},
		"a device that cannot be written to":  {Ref{Volume: "v", Path: "/dev/sda"}, func(h *host) { h.disks[0].ReadOnly = true }, ErrNotOurs},
		"a device that another volume has":    {Ref{Volume: "v", Path: "/dev/sdb"}, func(*host) {}, ErrTaken},
		"the device that it has by its names": {Ref{Volume: "w", Path: "/dev/sda"}, func(*host) {}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.mustTake(Want{Volume: "w", ID: "wwn-2"})
			tc.edit(b.host)
			_, err := b.devices().Find(t.Context(), tc.ref)
			wantError(t, err, tc.err)
		})
	}
	b := newBench(t)
	b.host.on["wwn-1"] = "ext4"
	_, err := b.devices().Find(t.Context(), Ref{Volume: "v", Path: "/dev/sda"})
	must(t, err)
	b.host.disks[0].Path, b.host.disks[1].Path = "/dev/sdb", "/dev/sda" // from now on it is known by who it is
	found, err := b.devices().Find(t.Context(), Ref{Volume: "v", Path: "/dev/sda"})
	if err != nil || found.Path != "/dev/sdb" || !found.Adopted {
		t.Errorf("found %+v, %v", found, err)
	}
	wantError(t, b.release(Ref{Volume: "v", Path: "/dev/sda"}), ErrNotOurs) // nothing proves whose the data is
	b.host.on["wwn-1"] = "data"                                             // nor when only the signature is gone
	wantError(t, b.release(Ref{Volume: "v", Path: "/dev/sda"}), ErrNotOurs)
	delete(b.host.on, "wwn-1") // somebody said that it may go
	must(t, b.release(Ref{Volume: "v", Path: "/dev/sda"}))
	must(t, b.release(Ref{Volume: "v", Path: "/dev/sda"}))
}

func TestWhoDecidesAboutDevicesIsAlone(t *testing.T) {
	b := newBench(t)
	release, err := NewBook(b.root).Alone(t.Context()) // another process
	must(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = b.devices().Promise(ctx, Want{Volume: "v", ID: "wwn-1"})
	wantError(t, err, context.Canceled)
	if _, stands, err := NewBook(b.root).Get("v"); stands || err != nil {
		t.Errorf("it was given a device all the same, %v", err)
	}
	waiting := make(chan error, 1)
	go func() { _, err := b.take(Want{Volume: "v", ID: "wwn-1"}); waiting <- err }()
	release()
	must(t, <-waiting)
}

// TestEveryStepMayBeTheLast has each step fail once, as if the process died there, and
// wants the repeated call to finish.
func TestEveryStepMayBeTheLast(t *testing.T) {
	crash := errors.New("power cut")
	for _, what := range []string{"devices", "inspect", "zero"} {
		t.Run("taking: "+what, func(t *testing.T) {
			b := newBench(t)
			b.host.on["wwn-1"], b.host.broken[what] = "bytes", crash
			want := Want{Volume: "v", ID: "wwn-1", Block: true}
			_, err := b.take(want)
			wantError(t, err, crash)
			if what == "zero" {
				_, err := b.devices().Find(t.Context(), Ref{Volume: "v"})
				wantError(t, err, ErrNotReady)
				_, err = b.take(Want{Volume: "w", ID: "wwn-1"})
				wantError(t, err, ErrTaken)
			}
			if taken := b.mustTake(want); taken.State != Ready || b.host.on["wwn-1"] != "" {
				t.Errorf("taken %+v, with %q on it", taken, b.host.on["wwn-1"])
			}
		})
	}
	for _, what := range []string{"devices", "wipe", "wiped"} {
		t.Run("releasing: "+what, func(t *testing.T) {
			b := newBench(t)
			b.mustTake(Want{Volume: "v", ID: "wwn-1"})
			b.host.on["wwn-1"], b.host.broken[what] = "ext4", crash
			wantError(t, b.release(Ref{Volume: "v"}), crash)
			if what != "devices" {
				_, err := b.devices().Find(t.Context(), Ref{Volume: "v"})
				wantError(t, err, ErrNotReady)
				_, err = b.take(Want{Volume: "v", ID: "wwn-1"})
				wantError(t, err, ErrNotReady)
			}
			_, err := b.take(Want{Volume: "w", ID: "wwn-1"})
			wantError(t, err, ErrTaken)
			must(t, b.release(Ref{Volume: "v"}))
			if b.host.on["wwn-1"] != "" {
				t.Error("it was not wiped")
			}
			b.mustTake(Want{Volume: "w", ID: "wwn-1"})
		})
	}
	t.Run("a block volume that was never finished is removed", func(t *testing.T) {
		b := newBench(t)
		b.host.broken["zero"] = crash
		_, err := b.take(Want{Volume: "v", ID: "wwn-1", Block: true})
		wantError(t, err, crash)
		must(t, b.release(Ref{Volume: "v"}))
		b.mustTake(Want{Volume: "w", ID: "wwn-1"})
	})
}

func TestABookThatCannotBeReadHandsOutNothing(t *testing.T) {
	b := newBench(t)
	b.mustTake(Want{Volume: "v", ID: "wwn-1"})
	book := NewBook(b.root)
	must(t, os.WriteFile(filepath.Join(book.Dir(), "new-half"), []byte("{"), 0o600)) // left by a crash, and nothing
	if all, err := book.List(); err != nil || len(all) != 1 {
		t.Errorf("%d records, %v", len(all), err)
	}
	for _, content := range []string{"", "{", "{}", `{"volume":"v"}`} {
		must(t, os.WriteFile(book.file("other"), []byte(content), 0o600))
		if _, err := b.take(Want{Volume: "w", ID: "wwn-2"}); err == nil {
			t.Errorf("with %q in the book a device was taken", content)
		}
	}
	must(t, book.Forget("other"))
	must(t, book.Forget("other"))
	b.mustTake(Want{Volume: "w", ID: "wwn-2"})
}
