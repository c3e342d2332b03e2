package exclusive

import (
	"errors"
	"os"
	"strings"
	"sync"
	"testing"

	"github.com/open-local/open-local/pkg/wipe"
)

func TestThatAVolumeIsFormattedIsRemembered(t *testing.T) {
	set := func(change func(r *Record)) func(*testing.T, bench) {
		return func(t *testing.T, b bench) {
			t.Helper()
			book := NewBook(b.root)
			r, _, err := book.Get("v")
			must(t, err)
			change(&r)
			must(t, book.Put(r))
		}
	}
	for name, tc := range map[string]struct {
		before []func(*testing.T, bench)
		after  []func(*testing.T, bench)
		err    error
		state  State // in the end; empty when nothing is remembered
		noted  bool
	}{
		"of a volume that is ready": {nil, nil, nil, Ready, true},
		"again, which costs nothing": {[]func(*testing.T, bench){func(t *testing.T, b bench) {
			t.Helper()
			must(t, b.devices().NoteFormatted("v"))
		}}, nil, nil, Ready, true},
		"not of one that is being removed, and that stays so": {
			[]func(*testing.T, bench){set(func(r *Record) { r.State = Clearing })}, nil, ErrNotReady, Clearing, false,
		},
		"not of one that was never finished": {[]func(*testing.T, bench){set(func(r *Record) { r.State = Taking })}, nil, ErrNotReady, Taking, false},
		"not of one that is gone, and that stays so": {[]func(*testing.T, bench){func(t *testing.T, b bench) {
			t.Helper()
			must(t, b.release(Ref{Volume: "v"}))
		}}, nil, ErrNotReady, "", false},
		"also when it could not be removed because it is in use": {nil, []func(*testing.T, bench){func(t *testing.T, b bench) {
			t.Helper()
			b.host.broken["wipe"] = wipe.ErrInUse
			wantError(t, b.release(Ref{Volume: "v"}), wipe.ErrInUse)
		}}, nil, Ready, true},
		"and nothing of that of its next volume": {nil, []func(*testing.T, bench){func(t *testing.T, b bench) {
			t.Helper()
			must(t, b.release(Ref{Volume: "v"}))
			b.mustTake(Want{Volume: "v", ID: "wwn-1"})
		}}, nil, Ready, false},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			b.mustTake(Want{Volume: "v", ID: "wwn-1"})
			for _, do := range tc.before {
				do(t, b)
			}
			wantError(t, b.devices().NoteFormatted("v"), tc.err)
			for _, do := range tc.after {
				do(t, b)
			}
			record, stands, err := NewBook(b.root).Get("v")
			if err != nil || stands != (tc.state != "") || record.State != tc.state || record.Formatted != tc.noted {
				t.Errorf("remembered is %+v, %t, %v", record, stands, err)
			}
			if found, err := b.devices().Find(t.Context(), Ref{Volume: "v"}); err == nil && found.Formatted != tc.noted {
				t.Errorf("found is %+v", found)
			}
		})
	}
}

func TestARecordOfBeforeReadsAsItDid(t *testing.T) {
	b := newBench(t)
	b.mustTake(Want{Volume: "v", ID: "wwn-1"})
	content, err := os.ReadFile(NewBook(b.root).file("v"))
	must(t, err)
	if strings.Contains(string(content), "formatted") {
		t.Errorf("a volume that was not formatted is written as %s", content)
	}
	found, err := b.devices().Find(t.Context(), Ref{Volume: "v"})
	if err != nil || found.Formatted {
		t.Errorf("found is %+v, %v", found, err)
	}
}

func TestAVolumeThatIsRemovedMeanwhileIsNotBroughtBack(t *testing.T) {
	for range 50 {
		b := newBench(t)
		b.mustTake(Want{Volume: "v", ID: "wwn-1"})
		d := b.devices()
		var both sync.WaitGroup
		both.Go(func() {
			if err := d.NoteFormatted("v"); err != nil && !errors.Is(err, ErrNotReady) {
				t.Error(err)
			}
		})
		both.Go(func() {
			if err := d.Release(t.Context(), Ref{Volume: "v"}, quietly); err != nil {
				t.Error(err)
			}
		})
		both.Wait()
		if _, stands, err := NewBook(b.root).Get("v"); stands || err != nil {
			t.Fatalf("it stands: %t, %v", stands, err)
		}
	}
}
