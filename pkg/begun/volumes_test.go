package begun

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func wantToken(t *testing.T, v *Volumes, name, want string) {
	t.Helper()
	if got, err := v.Token(name); got != want || err != nil {
		t.Errorf("the token of %s is %q (%v), want %q", name, got, err, want)
	}
}

func TestAVolumeHasOneTokenFromItsBeginningToItsEnd(t *testing.T) {
	root := t.TempDir()
	wantToken(t, NewVolumes(root), "a", "")
	token, err := NewVolumes(root).Begin("a")
	if err != nil {
		t.Fatal(err)
	}
	if again, err := NewVolumes(root).Begin("a"); again != token || err != nil {
		t.Errorf("an attempt later the token is %q (%v), it was %q", again, err, token)
	}
	other, err := NewVolumes(root).Begin("b")
	if err != nil || other == token {
		t.Errorf("another volume has the token %q (%v)", other, err)
	}
	for range 2 {
		if err := NewVolumes(root).End("a"); err != nil {
			t.Fatal(err)
		}
	}
	wantToken(t, NewVolumes(root), "a", "")
	wantToken(t, NewVolumes(root), "b", other)
	if next, err := NewVolumes(root).Begin("a"); next == token || err != nil {
		t.Errorf("the next volume of that name has the token %q (%v)", next, err)
	}
	if err := NewVolumes(t.TempDir()).End("a"); err != nil {
		t.Errorf("where nothing was ever made: %v", err)
	}
}

func TestATokenThatWasNotWrittenHereIsAnErrorThatSaysWhatToDo(t *testing.T) {
	for name, content := range map[string]string{
		"it is empty": "", "it is short": "0123", "it is long": "0123456789abcdef0", "it is no number": "0123456789abcdeg", "a line": "0123456789abcdef\n",
	} {
		t.Run(name, func(t *testing.T) {
			v := NewVolumes(t.TempDir())
			if err := os.MkdirAll(v.dir, 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(v.dir, "a"), []byte(content), 0o600); err != nil {
				t.Fatal(err)
			}
			if _, err := v.Begin("a"); err == nil || !strings.Contains(err.Error(), "remove the file") {
				t.Errorf("got %v", err)
			}
		})
	}
}
