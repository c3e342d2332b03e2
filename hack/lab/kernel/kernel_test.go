package kernel

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

func TestFind(t *testing.T) {
	for name, c := range map[string]struct {
		files   []string
		variant string
		fetched bool
	}{
		"the installed one where none was fetched":         {},
		"the fetched one":                                  {files: []string{"linux.uml"}, fetched: true},
		"the installed one where fetching was interrupted": {files: []string{"linux.uml.part", "lock"}},
		"the installed one where it is asked for":          {files: []string{"linux.uml"}, variant: "installed"},
	} {
		t.Run(name, func(t *testing.T) {
			dir := cache(t)
			t.Setenv(Variable, c.variant)
			for _, file := range c.files {
				write(t, filepath.Join(dir, file), "")
			}
			got, err := Find()
			if err != nil {
				t.Fatal(err)
			}
			want := installed
			if c.fetched {
				want = in(dir)
			}
			if got.Binary != want.Binary || got.Modules != want.Modules {
				t.Errorf("machines run %+v, want %+v", got, want)
			}
		})
	}
}

func TestFetchAfterAFailure(t *testing.T) {
	dir := cache(t)
	t.Setenv("PATH", t.TempDir()) // so that nothing can be fetched
	failed := filepath.Join(dir, "failed")
	write(t, failed, "the mirror is on fire\n")
	var told strings.Builder
	Fetch(t.Context(), &told)
	if !strings.Contains(told.String(), "the mirror is on fire") || strings.Contains(told.String(), "fetching") {
		t.Errorf("within the hour it is tried again, or it is not told why not: %s", told.String())
	}
	before := time.Now().Add(-pause - time.Minute)
	if err := os.Chtimes(failed, before, before); err != nil {
		t.Fatal(err)
	}
	told.Reset()
	Fetch(t.Context(), &told)
	if !strings.Contains(told.String(), "fetching") || !strings.Contains(told.String(), "apt-get") {
		t.Errorf("after the hour it is not tried again: %s", told.String())
	}
	if said, err := os.ReadFile(failed); err != nil || !strings.Contains(string(said), "apt-get") {
		t.Errorf("what failed is not kept: %s, %v", said, err)
	}
}

// cache makes the directory of an empty cache.
func cache(t *testing.T) string {
	t.Helper()
	t.Setenv("XDG_CACHE_HOME", t.TempDir())
	t.Setenv(Variable, "")
	dir, err := directory()
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func write(t *testing.T, file, text string) {
	t.Helper()
	if err := os.WriteFile(file, []byte(text), 0o644); err != nil {
		t.Fatal(err)
	}
}
