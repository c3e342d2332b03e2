package begun

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func wantChanges(t *testing.T, j *Journal, want ...Change) {
	t.Helper()
	got, err := j.List()
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("changes (-want +got):\n%s", diff)
	}
}

func TestWhatWasBegunIsRememberedOverRestartsUntilItIsForgotten(t *testing.T) {
	root := t.TempDir()
	group, wipe := Change{ID: "wwn-1", What: "volume group pool"}, Change{ID: "wwn-1", What: "wipe", Contents: "0123"}
	other := Change{ID: "wwn-2", What: "volume group pool"}
	for _, do := range []func(*Journal) error{
		func(j *Journal) error { return j.Put(wipe) },
		func(j *Journal) error { return j.Put(group, other) },
		func(j *Journal) error { return j.Put(group) }, // once more, as the repetition does
	} {
		if err := do(New(root)); err != nil {
			t.Fatal(err)
		}
	}
	wantChanges(t, New(root), wipe, other, group)

	now := time.Date(2026, 3, 1, 10, 12, 0, 0, time.UTC)
	done := wipe
	done.Done, done.Device = &now, "/dev/sdb"
	if err := New(root).Put(done); err != nil {
		t.Fatal(err)
	}
	if err := New(root).Forget(group, other, Change{ID: "wwn-3", What: "what nobody began"}); err != nil {
		t.Fatal(err)
	}
	wantChanges(t, New(root), done)
	if err := New(root).Forget(wipe); err != nil { // however far it came
		t.Fatal(err)
	}
	got, err := New(root).List()
	if err != nil || len(got) != 0 {
		t.Errorf("got %v, %v", got, err)
	}
	left, err := filepath.Glob(filepath.Join(root, "var/lib/open-local/*"))
	if err != nil || len(left) != 1 {
		t.Errorf("files are left: %v, %v", left, err)
	}
}

func TestAJournalThatCannotBeReadIsAnErrorAndIsKept(t *testing.T) {
	root := t.TempDir()
	path := filepath.Join(root, File)
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte("[{"), 0o600); err != nil {
		t.Fatal(err)
	}
	j := New(root)
	if all, err := j.List(); err == nil {
		t.Errorf("got %v", all)
	}
	if err := j.Put(Change{ID: "wwn-1", What: "volume group pool"}); err == nil {
		t.Error("it was written over")
	}
	if data, err := os.ReadFile(path); err != nil || string(data) != "[{" {
		t.Errorf("it is %q now, %v", data, err)
	}
}

func TestWhatIsNoNewsIsNotWritten(t *testing.T) {
	root := t.TempDir()
	if err := New(root).Forget(Change{ID: "wwn-1", What: "volume group pool"}); err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(filepath.Join(root, File)); !os.IsNotExist(err) {
		t.Errorf("there is a journal: %v", err)
	}
}
