package exclusive

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"
)

// tree makes a directory with what a tenant may leave behind, beside one that is not
// the tenant's, and returns both.
func tree(t *testing.T) (tenant, others string) {
	t.Helper()
	root := t.TempDir()
	tenant, others = filepath.Join(root, "tenant"), filepath.Join(root, "others")
	for _, dir := range []string{"a/b/c/d/e", "empty", "lost+found/found", "..strange", "a/b2", strings.Repeat("n", 255)} {
		must(t, os.MkdirAll(filepath.Join(tenant, dir), 0o755))
	}
	must(t, os.MkdirAll(filepath.Join(others, "dir"), 0o755))
	for _, file := range []string{"file", "a/b/c/d/e/deep", "a/b2/x", ".hidden", "new\nline", "-rf", "lost+found/#12", "a/b/.open-local-empties-1", ".open-local-empties-1"} {
		must(t, os.WriteFile(filepath.Join(tenant, file), []byte("data"), 0o600))
	}
	must(t, os.WriteFile(filepath.Join(others, "dir/file"), []byte("kept"), 0o600))
	for link, target := range map[string]string{"out": others, "a/up": "../../others/dir", "self": ".", "nowhere": "/no/such", "a/b/file": others + "/dir/file"} {
		must(t, os.Symlink(target, filepath.Join(tenant, link)))
	}
	must(t, os.Link(filepath.Join(others, "dir/file"), filepath.Join(tenant, "hard")))
	must(t, unix.Mkfifo(filepath.Join(tenant, "fifo"), 0o600))
	return tenant, others
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func wantNames(t *testing.T, dir string, want ...string) {
	t.Helper()
	entries, err := os.ReadDir(dir)
	must(t, err)
	var got []string
	for _, entry := range entries {
		got = append(got, entry.Name())
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("in %s (-want +got):\n%s", dir, diff)
	}
}

func open(t *testing.T, path string) *os.File {
	t.Helper()
	file, err := os.Open(path)
	must(t, err)
	t.Cleanup(func() { _ = file.Close() })
	return file
}

func TestAllThatATenantLeftGoesAndNothingElse(t *testing.T) {
	tenant, others := tree(t)
	must(t, empty(t.Context(), open(t, tenant)))
	wantNames(t, tenant, "lost+found")
	wantNames(t, filepath.Join(tenant, "lost+found"))
	kept, err := os.ReadFile(filepath.Join(others, "dir/file"))
	if err != nil || string(kept) != "kept" {
		t.Errorf("what lies elsewhere is %q, %v", kept, err)
	}
	must(t, empty(t.Context(), open(t, tenant))) // again
}

func TestADeepTreeGoes(t *testing.T) { deepTree(t, t.TempDir(), 30) }

// deepTree makes directories within each other, and has them deleted.
func deepTree(t *testing.T, top string, depth int) {
	t.Helper()
	at := open(t, top)
	for range depth {
		must(t, unix.Mkdirat(int(at.Fd()), "deeper", 0o755))
		next, err := enter(at, "deeper")
		must(t, err)
		must(t, at.Close())
		at = next
	}
	must(t, at.Close())
	must(t, empty(t.Context(), open(t, top)))
	wantNames(t, top)
}

// manyFiles makes more files than are read at once, and has them deleted.
func manyFiles(t *testing.T, top string, count int) {
	t.Helper()
	for i := range count {
		must(t, os.WriteFile(filepath.Join(top, fmt.Sprint(i)), nil, 0o600))
	}
	must(t, empty(t.Context(), open(t, top)))
	wantNames(t, top)
}

func TestFilesGo(t *testing.T) { manyFiles(t, t.TempDir(), 20) }

func TestANameThatIsExtsIsTheTenantsWhereItIsNoDirectory(t *testing.T) {
	for name, make := range map[string]func(path string) error{
		"a file": func(path string) error { return os.WriteFile(path, []byte("data"), 0o600) },
		"a link": func(path string) error { return os.Symlink("/etc", path) },
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			must(t, make(filepath.Join(top, lostAndFound)))
			must(t, empty(t.Context(), open(t, top)))
			wantNames(t, top)
		})
	}
}

func TestEmptyingStopsWhenItsContextEnds(t *testing.T) {
	tenant, _ := tree(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := empty(ctx, open(t, tenant)); !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want Canceled", err)
	}
	must(t, empty(t.Context(), open(t, tenant)))
}

func TestWhatIsEmpty(t *testing.T) {
	for name, tc := range map[string]struct {
		dirs, files []string
		want        bool
	}{
		"nothing":                         {want: true},
		"lost+found":                      {dirs: []string{lostAndFound}, want: true},
		"something in lost+found":         {dirs: []string{lostAndFound}, files: []string{lostAndFound + "/x"}},
		"a file":                          {files: []string{"x"}},
		"a hidden file":                   {files: []string{".x"}},
		"a directory beside lost+found":   {dirs: []string{lostAndFound, "x"}},
		"a file that is called like that": {files: []string{lostAndFound}},
	} {
		t.Run(name, func(t *testing.T) {
			top := t.TempDir()
			for _, dir := range tc.dirs {
				must(t, os.Mkdir(filepath.Join(top, dir), 0o755))
			}
			for _, file := range tc.files {
				must(t, os.WriteFile(filepath.Join(top, file), nil, 0o600))
			}
			if err := isEmpty(open(t, top)); (err == nil) != tc.want {
				t.Errorf("got %v, want empty: %t", err, tc.want)
			}
		})
	}
}
