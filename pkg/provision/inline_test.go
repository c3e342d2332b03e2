package provision_test

import (
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// An inline volume, its pod, and another pod.
var (
	web      = volume.Pod{Namespace: "default", Name: "web-0", UID: "5b0e9a0e-6f0e-4c39-9a59-0f9c8c4a7b11"}
	stranger = volume.Pod{Namespace: "other", Name: "web-0", UID: "00000000-6f0e-4c39-9a59-0f9c8c4a7b11"}
	inlineID = volume.ForInline(web.UID, "scratch")
)

func inline(s *provision.Spec) {
	s.ID, s.OnlyGroup, s.Tags = inlineID, s.Group, []string{web.Tag()}
}

// has makes a volume that nobody asked the node for.
func has(t *testing.T, n *provisiontest.Node, group, name string, tags ...string) {
	t.Helper()
	if err := n.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: group, Name: name, Size: 8 * mib, Tags: tags}); err != nil {
		t.Fatal(err)
	}
	n.Restart()
}

func wantInlines(t *testing.T, n *provisiontest.Node, want ...provision.Inline) {
	t.Helper()
	got, err := n.Inlines(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("inline volumes (-want +got):\n%s", diff)
	}
}

func TestAnInlineVolumeIsRememberedAndCostsOneProcessEachWay(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec(inline))
	wantRuns(t, n, map[string]int{"lvm lvcreate": 1})
	mustEnsure(t, n, spec(inline))
	wantRuns(t, n, map[string]int{"lvm fullreport": 1})
	for range 2 {
		wantInlines(t, n, provision.Inline{ID: inlineID, Group: "fast", Pod: web})
		wantRuns(t, n, map[string]int{})
		n.Restart() // and the next process knows it, too
	}
	if err := n.RemoveInline(t.Context(), inlineID, false); err != nil {
		t.Fatal(err)
	}
	wantRuns(t, n, map[string]int{"lvm lvremove": 1})
	wantVolumes(t, n)
	if err := n.RemoveInline(t.Context(), inlineID, true); err != nil {
		t.Fatal(err)
	}
	wantInlines(t, n)
	wantRuns(t, n, map[string]int{})
}

func TestRemoveInlineRemovesOnlyTheInlineVolumeItself(t *testing.T) {
	for name, test := range map[string]struct {
		group, name string
		tags        []string
		id          string
		unproven    bool
		gone        bool
		runs        map[string]int
		err         error
	}{
		"its own":                             {group: "fast", name: inlineID, tags: []string{volume.IDTag(inlineID), web.Tag()}, id: inlineID, gone: true, runs: map[string]int{"lvm lvremove": 1}},
		"its own in a group no longer ours":   {group: "former", name: inlineID, tags: []string{volume.IDTag(inlineID), web.Tag()}, id: inlineID, gone: true, runs: map[string]int{"lvm lvremove": 1}},
		"one without the pod's tag":           {group: "fast", name: inlineID, tags: []string{volume.IDTag(inlineID)}, id: inlineID},
		"one of another handle":               {group: "fast", name: inlineID, tags: []string{volume.IDTag(id), web.Tag()}, id: inlineID},
		"one whose handles contradict":        {group: "fast", name: inlineID, tags: []string{volume.IDTag(inlineID), volume.IDTag(id), web.Tag()}, id: inlineID},
		"one with somebody's mark":            {group: "fast", name: inlineID, tags: []string{"open-local.driver=x"}, id: inlineID},
		"a claim's volume":                    {group: "fast", name: id, tags: []string{volume.IDTag(id)}, id: id},
		"a claim's volume with a pod's tag":   {group: "fast", name: id, tags: []string{volume.IDTag(id), web.Tag()}, id: id},
		"one of the first open-local":         {group: "fast", name: inlineID, id: inlineID, gone: true, runs: map[string]int{"lvm fullreport": 1, "lvm lvremove": 1}},
		"one of the first without proof":      {group: "fast", name: inlineID, id: inlineID, unproven: true},
		"one of the first in a foreign group": {group: "former", name: inlineID, id: inlineID},
		"one of the first that got a mark since": {
			group: "fast", name: inlineID, tags: []string{"protected"}, id: inlineID,
			runs: map[string]int{"lvm fullreport": 2, "lvm lvremove": 1}, err: lvm.ErrProtected,
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			n.AddGroup("former", "/dev/former", 16*mib)
			has(t, n, test.group, test.name, test.tags...)
			if err := n.RemoveInline(t.Context(), test.id, !test.unproven); !errors.Is(err, test.err) {
				t.Errorf("got %v, want %v", err, test.err)
			}
			if test.runs == nil {
				test.runs = map[string]int{}
			}
			wantRuns(t, n, test.runs)
			if test.gone {
				wantVolumes(t, n)
			} else {
				wantVolumes(t, n, test.group+"/"+test.name)
			}
		})
	}
}

func TestAnInlineVolumeThatIsOpenOrLostIsKeptInMind(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec(inline))
	release := n.Open("fast", inlineID)
	if err := n.RemoveInline(t.Context(), inlineID, true); !errors.Is(err, lvm.ErrInUse) {
		t.Errorf("an open volume: got %v, want ErrInUse", err)
	}
	release()
	n.Lose("/dev/disk-fast")
	if err := n.RemoveInline(t.Context(), inlineID, true); !errors.Is(err, lvm.ErrGroupNotFound) {
		t.Errorf("a lost group: got %v, want ErrGroupNotFound", err)
	}
	n.Find("/dev/disk-fast")
	wantInlines(t, n, provision.Inline{ID: inlineID, Group: "fast", Pod: web})
	if err := n.RemoveInline(t.Context(), inlineID, true); err != nil {
		t.Error(err)
	}
	wantVolumes(t, n)
}

func TestHandlesOfInlineVolumesAreForPodsAlone(t *testing.T) {
	n := node(t)
	for name, s := range map[string]provision.Spec{
		"a claim under the handle of an inline volume": spec(func(s *provision.Spec) { s.ID = inlineID }),
		"a pod under the handle of a claim":            spec(func(s *provision.Spec) { s.Tags = []string{web.Tag()} }),
	} {
		if _, err := n.Ensure(t.Context(), s); !errors.Is(err, volume.ErrInvalid) {
			t.Errorf("%s: got %v, want ErrInvalid", name, err)
		}
	}
	wantVolumes(t, n)
	mustEnsure(t, n, spec(inline))
	if err := n.Remove(t.Context(), provision.Removal{ID: inlineID, Kind: volume.LVM, Group: "fast", Proven: true}); !errors.Is(err, volume.ErrInvalid) {
		t.Errorf("a claim removes it: got %v, want ErrInvalid", err)
	}
	wantVolumes(t, n, "fast/"+inlineID)
}

func TestAnInlineVolumeThatIsNotThisPodsIsNotHandedOut(t *testing.T) {
	for name, tags := range map[string][]string{
		"no tags":               nil,
		"no pod":                {volume.IDTag(inlineID)},
		"another pod":           {volume.IDTag(inlineID), stranger.Tag()},
		"another handle":        {volume.IDTag(id), web.Tag()},
		"two pods":              {volume.IDTag(inlineID), web.Tag(), stranger.Tag()},
		"an administrator's":    {"backup"},
		"two contradicting ids": {volume.IDTag(inlineID), volume.IDTag(id), web.Tag()},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			has(t, n, "fast", inlineID, tags...)
			if _, err := n.Ensure(t.Context(), spec(inline)); !errors.Is(err, provision.ErrConflict) {
				t.Errorf("got %v, want ErrConflict", err)
			}
			wantVolumes(t, n, "fast/"+inlineID)
		})
	}
}

func TestAnInlineVolumeNeverLeaksWhereverItsCallDied(t *testing.T) {
	remove := func(n *provisiontest.Node) error { return n.RemoveInline(t.Context(), inlineID, false) }
	t.Run("its making, repeated", func(t *testing.T) {
		dies(t, 4, nil,
			func(n *provisiontest.Node) error { _, err := n.Ensure(t.Context(), spec(inline)); return err },
			func(t *testing.T, n *provisiontest.Node) {
				mustEnsure(t, n, spec(inline))
				wantVolumes(t, n, "fast/"+inlineID)
				wantInlines(t, n, provision.Inline{ID: inlineID, Group: "fast", Pod: web})
			})
	})
	t.Run("its making, not repeated", func(t *testing.T) {
		dies(t, 4, nil,
			func(n *provisiontest.Node) error { _, err := n.Ensure(t.Context(), spec(inline)); return err },
			func(t *testing.T, n *provisiontest.Node) {
				if err := remove(n); err != nil {
					t.Error(err)
				}
				wantVolumes(t, n)
			})
	})
	t.Run("its removal", func(t *testing.T) {
		dies(t, 3, func(t *testing.T, n *provisiontest.Node) { mustEnsure(t, n, spec(inline)) }, remove,
			func(t *testing.T, n *provisiontest.Node) {
				if err := remove(n); err != nil {
					t.Error(err)
				}
				wantVolumes(t, n)
				wantInlines(t, n)
			})
	})
}
