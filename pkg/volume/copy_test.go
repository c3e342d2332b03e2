package volume_test

import (
	"strings"
	"testing"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

func TestTagsOfCopiesAreReadBack(t *testing.T) {
	for _, id := range []string{"snap-1", "local-5b0e9a0e-6f0e-4c39-9a59-0f9c8c4a7b11", "a b/ü"} {
		tags := []string{"other", volume.CopyTag(id), volume.CloneTag(id + "-target")}
		if got, ok := volume.CopyFromTags(tags); !ok || got != id {
			t.Errorf("copy of %q, %t; want %q", got, ok, id)
		}
		if got, ok := volume.CloneFromTags(tags); !ok || got != id+"-target" {
			t.Errorf("clone for %q, %t; want %q", got, ok, id+"-target")
		}
		for _, tag := range tags {
			if !volume.ValidTag(tag) {
				t.Errorf("%q is no tag", tag)
			}
		}
	}
	if got, ok := volume.CloneFromTags([]string{volume.CopyTag("x")}); ok {
		t.Errorf("a copy is a clone for %q", got)
	}
	if !volume.ValidTag(volume.CopyingTag) {
		t.Errorf("%q is no tag", volume.CopyingTag)
	}
}

func TestEveryTargetHasItsOwnCloneName(t *testing.T) {
	seen := map[string]string{}
	for _, target := range []string{
		"local-5b0e9a0e-6f0e-4c39-9a59-0f9c8c4a7b11", "local-1", "1", "a b", "a/b", strings.Repeat("x", 60), strings.Repeat("x", 70),
		strings.Repeat("-", 128), volume.NameOf("a b"), strings.Repeat("y", 128), volume.ForInline("uid", "scratch"),
	} {
		name := volume.CloneName(target)
		if !strings.HasPrefix(name, "clone-") || volume.LooksOurs(name) {
			t.Errorf("the clone of %q is %q", target, name)
		}
		if err := lvm.ValidPair("open-local-pool-0", name); err != nil {
			t.Error(err)
		}
		if other, taken := seen[name]; taken && volume.NameOf(other) != volume.NameOf(target) {
			t.Errorf("%q and %q share %q", other, target, name)
		}
		seen[name] = target
	}
	if got := volume.CloneName("local-1"); got != "clone-local-1" {
		t.Errorf("the clone of local-1 is %q", got)
	}
}
