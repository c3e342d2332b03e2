package main

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestWhatIsStaleIsNamedAndPutRight(t *testing.T) {
	have := map[string]string{
		"apis/storage/v1alpha1/zz_generated.deepcopy.go": "old",
		"apis/storage/v1alpha1/types.go":                 "written by hand",
		"pkg/client/listers/gone.go":                     "of a kind that is gone",
		"helm/crds/kind.yaml":                            "same",
		"helm/values.yaml":                               "written by hand",
	}
	want := map[string]string{
		"apis/storage/v1alpha1/zz_generated.deepcopy.go": "new",
		"pkg/client/clientset/versioned/client.go":       "new",
		"pkg/nodeapi/nodepb/node.pb.go":                  "new",
		"helm/crds/kind.yaml":                            "same",
	}
	root, generated := tree(t, have), tree(t, want)

	err := compare(root, generated, true)
	if err == nil {
		t.Fatal("nothing is said to be stale")
	}
	stale := strings.Fields(err.Error()[strings.IndexByte(err.Error(), '\n'):])
	wantStale := []string{
		"apis/storage/v1alpha1/zz_generated.deepcopy.go", "pkg/client/clientset/versioned/client.go",
		"pkg/client/listers/gone.go", "pkg/nodeapi/nodepb/node.pb.go",
	}
	if diff := cmp.Diff(wantStale, stale); diff != "" {
		t.Errorf("stale (-want +got):\n%s", diff)
	}
	if diff := cmp.Diff(have, files(t, root)); diff != "" {
		t.Errorf("checking changed something (-before +after):\n%s", diff)
	}

	if err := compare(root, generated, false); err != nil {
		t.Fatal(err)
	}
	maps.Copy(have, want)
	delete(have, "pkg/client/listers/gone.go")
	if diff := cmp.Diff(have, files(t, root)); diff != "" {
		t.Errorf("after generating (-want +got):\n%s", diff)
	}
	if err := compare(root, generated, true); err != nil {
		t.Errorf("what was just generated: %v", err)
	}
}

func tree(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if err := put(filepath.Join(root, name), []byte(files[name])); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

func files(t *testing.T, root string) map[string]string {
	t.Helper()
	found := map[string]string{}
	names, err := below(root)
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range names {
		content, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		relative, err := filepath.Rel(root, name)
		if err != nil {
			t.Fatal(err)
		}
		found[relative] = string(content)
	}
	return found
}
