package health

import (
	"context"
	"io/fs"
	"sync"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	testingclock "k8s.io/utils/clock/testing"

	"github.com/open-local/open-local/pkg/devfile"
)

// disk is a device with troubles, for the one number that is asked about.
type disk struct {
	mu                        sync.Mutex // guards what follows
	gone, suspended, readOnly bool
	extErrors                 int64
	readErr, lookErr          error
	hang                      chan struct{} // a read waits for it
	done, running             uint64
	reads                     int
	asked                     func() // at each question whether it is suspended
}

func (d *disk) change(how func(*disk)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	how(d)
}

func (d *disk) Alive(uint64) bool { d.mu.Lock(); defer d.mu.Unlock(); return !d.gone }

func (d *disk) Suspended(uint64) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.asked != nil {
		d.asked()
	}
	return d.suspended, nil
}

func (d *disk) ReadOnly(uint64) (bool, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.readOnly, nil
}

func (d *disk) ExtErrors(uint64) (int64, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.extErrors, nil
}

func (d *disk) Look(string) (devfile.File, error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return devfile.File{}, d.lookErr
}

func (d *disk) Work(uint64) (done, running uint64, err error) {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.done, d.running, nil
}

func (d *disk) ReadFirst(context.Context, uint64) error {
	d.mu.Lock()
	d.reads++
	hang := d.hang
	d.mu.Unlock()
	if hang != nil {
		<-hang
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.readErr
}

var (
	mounted = Subject{Device: unix.Mkdev(253, 3), Mount: "/mnt", Written: true}
	raw     = Subject{Device: unix.Mkdev(253, 3), Written: true}
)

func TestExamineSaysWhatIsWrong(t *testing.T) {
	frozen := mounted
	frozen.FrozenFS = true
	onlyRead := Subject{Device: mounted.Device, Mount: "/mnt"}
	for name, tc := range map[string]struct {
		disk *disk
		of   Subject
		want string
	}{
		"a file system that is well":                 {&disk{}, mounted, ""},
		"a block device that is well":                {&disk{}, raw, ""},
		"a device that is gone":                      {&disk{gone: true, suspended: true}, mounted, DeviceGone},
		"a device that cannot be read":               {&disk{readErr: unix.EIO, extErrors: 1}, raw, ReadError},
		"a read-only device":                         {&disk{readOnly: true}, mounted, DeviceReadOnly},
		"a read-only device that nobody writes to":   {&disk{readOnly: true}, onlyRead, ""},
		"a file system that turned read-only":        {&disk{}, frozen, FileSystemReadOnly},
		"a file system with errors":                  {&disk{extErrors: 3}, mounted, FileSystemErrors},
		"errors of a file system that nobody mounts": {&disk{extErrors: 3}, raw, ""},
		"a file system that gave up":                 {&disk{lookErr: unix.EIO}, mounted, ReadError},
		"a file system that is unmounted meanwhile":  {&disk{lookErr: fs.ErrNotExist}, mounted, ""},
	} {
		t.Run(name, func(t *testing.T) {
			got := NewExaminer(tc.disk, testingclock.NewFakeClock(time.Unix(0, 0))).Examine(t.Context(), tc.of)
			if got.Reason != tc.want || got.Abnormal() != (tc.want != "") || (got.Message == "") != (tc.want == "") {
				t.Errorf("got %+v, want %q", got, tc.want)
			}
		})
	}
}

// stepping moves the clock on whenever somebody waits for it, until stop is called.
func stepping(t *testing.T, clock *testingclock.FakeClock, step time.Duration) (stop func()) {
	t.Helper()
	end, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for {
			select {
			case <-end:
				return
			default:
				if clock.HasWaiters() {
					clock.Step(step)
				}
			}
		}
	}()
	return func() { close(end); <-ended }
}

func TestOnlyASuspensionThatLastsCounts(t *testing.T) {
	for name, tc := range map[string]struct {
		resumedAfter int // questions
		want         string
	}{
		"LVM changes the volume": {4, ""},
		"somebody forgot it":     {1000, Suspended},
	} {
		t.Run(name, func(t *testing.T) {
			d := &disk{suspended: true}
			asked := 0
			d.asked = func() {
				if asked++; asked > tc.resumedAfter {
					d.suspended = false
				}
			}
			clock := testingclock.NewFakeClock(time.Unix(0, 0))
			defer stepping(t, clock, suspendedLook)()
			if got := NewExaminer(d, clock).Examine(t.Context(), raw); got.Reason != tc.want {
				t.Errorf("got %+v, want %q", got, tc.want)
			}
			if tc.want == Suspended && d.reads > 0 {
				t.Error("a suspended device was read, which hangs")
			}
		})
	}
}

func TestADeviceThatDoesNotAnswerIsReadOnce(t *testing.T) {
	hang := make(chan struct{})
	d := &disk{hang: hang, running: 1}
	clock := testingclock.NewFakeClock(time.Unix(0, 0))
	e := NewExaminer(d, clock)
	stop := stepping(t, clock, patience)
	for range 3 {
		if got := e.Examine(t.Context(), raw); got.Reason != NotAnswering {
			t.Errorf("got %+v, want %s", got, NotAnswering)
		}
	}
	stop()
	d.change(func(d *disk) {
		if d.reads != 1 {
			t.Errorf("%d reads hang, want 1", d.reads)
		}
		d.hang = nil
	})
	p := e.begin(t.Context(), raw)
	close(hang)
	<-p.ended
	if got := e.Examine(t.Context(), raw); got.Abnormal() {
		t.Errorf("got %+v after the device answered", got)
	}
}

func TestAReadBehindOthersIsNoTrouble(t *testing.T) {
	for name, work := range map[string]func(d *disk){
		"the volume is limited, so nothing has reached the device": func(d *disk) { d.running = 0 },
		"the device is busy with others, and gets on":              func(d *disk) { d.running = 64; d.done++ },
	} {
		t.Run(name, func(t *testing.T) {
			hang := make(chan struct{})
			d := &disk{hang: hang}
			clock := testingclock.NewFakeClock(time.Unix(0, 0))
			answer := make(chan Condition)
			e := NewExaminer(d, clock)
			go func() { answer <- e.Examine(context.Background(), raw) }()
			for !clock.HasWaiters() {
			}
			d.change(work)
			clock.Step(patience)
			if got := <-answer; got.Abnormal() {
				t.Errorf("got %+v", got)
			}
			close(hang)
		})
	}
}

func TestACallerThatGivesUpLearnsNothing(t *testing.T) {
	hang := make(chan struct{})
	defer close(hang)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	d := &disk{hang: hang, running: 1}
	if got := NewExaminer(d, testingclock.NewFakeClock(time.Unix(0, 0))).Examine(ctx, raw); got.Abnormal() {
		t.Errorf("got %+v", got)
	}
}
