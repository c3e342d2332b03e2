package build

import (
	"os"
	"strings"
	"testing"
)

func TestTheKindsOfSnapshotsAreDefined(t *testing.T) {
	source, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	files, err := (&Cache{Source: source}).SnapshotKinds(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	var all strings.Builder
	for _, file := range files {
		content, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(content)
	}
	for _, kind := range []string{"VolumeSnapshot", "VolumeSnapshotClass", "VolumeSnapshotContent"} {
		if !strings.Contains(all.String(), "kind: "+kind+"\n") {
			t.Errorf("nothing defines %s", kind)
		}
	}
}

func TestAModuleThatIsNotNeededIsAnError(t *testing.T) {
	source, err := Source()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := moduleDir(t.Context(), source, "example.com/nobody/needs/this"); err == nil || !strings.Contains(err.Error(), "example.com/nobody/needs/this") {
		t.Errorf("got %v, want an error that names the module", err)
	}
}
