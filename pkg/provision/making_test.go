package provision_test

import (
	"testing"
	"time"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/volume"
)

// TestAVolumeWhoseMakingIsNotKnownToHaveEndedIsMadeAgain has the volume stand already,
// with data on it, in every way in which it may.
func TestAVolumeWhoseMakingIsNotKnownToHaveEndedIsMadeAgain(t *testing.T) {
	for name, test := range map[string]struct {
		begun  bool     // the attempt did not end
		tags   []string // beside those of the volume
		hidden bool     // no device file shows it
		again  bool
	}{
		"of an attempt that did not end":                     {begun: true, again: true},
		"of an attempt that did not end, without a file":     {begun: true, hidden: true, again: true},
		"of an attempt that ended":                           {},
		"of an attempt that ended, without a file":           {hidden: true},
		"of another attempt than that which did not end":     {begun: true, tags: []string{volume.MadeTag("0123456789abcdef")}},
		"of an attempt that ended, before there were tokens": {tags: []string{}},
		"of before there were tokens, and one did not end":   {begun: true, tags: []string{}},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			tags := append([]string{volume.IDTag(id)}, test.tags...)
			if test.begun || test.tags == nil {
				token, err := n.Making.Begin(id)
				must(t, err)
				if test.tags == nil {
					tags = append(tags, volume.MadeTag(token))
				}
			}
			if !test.begun {
				must(t, n.Making.End(id))
			}
			must(t, n.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "fast", Name: id, Size: 8 * mib, Tags: tags}))
			before := n.Volume("fast", id).UUID
			if test.hidden {
				n.Unlink("fast", id)
			}
			mustEnsure(t, n, spec())
			if again := n.Volume("fast", id).UUID != before; again != test.again {
				t.Errorf("it was made again: %t", again)
			}
			must(t, n.Remove(t.Context(), removal()))
			if token, err := n.Making.Token(id); token != "" || err != nil {
				t.Errorf("its making is remembered as %q, %v", token, err)
			}
			wantVolumes(t, n)
		})
	}
}

func TestWhatIsLeftOfASnapshotIsNoSnapshot(t *testing.T) {
	for name, do := range map[string]func(t *testing.T, n *provisiontest.Node){
		"it is made again": func(t *testing.T, n *provisiontest.Node) { mustSnapshot(t, n, shot()) },
		"it is made again, and had no device file": func(t *testing.T, n *provisiontest.Node) {
			n.Unlink("fast", snapID)
			mustSnapshot(t, n, shot())
		},
		"it is removed": func(*testing.T, *provisiontest.Node) {},
		"a process follows": func(t *testing.T, n *provisiontest.Node) {
			n.Restart()
			wantVolumes(t, n, "fast/"+id)
		},
	} {
		t.Run(name, func(t *testing.T) {
			n := node(t)
			mustEnsure(t, n, spec())
			mustSnapshot(t, n, shot())
			n.Part("fast", snapID)
			do(t, n)
			must(t, n.RemoveSnapshot(t.Context(), unshot(snapID)))
			wantVolumes(t, n, "fast/"+id)
			must(t, n.Remove(t.Context(), removal()))
			wantVolumes(t, n)
		})
	}
}

// TestASnapshotThatStandsAfterAFailedCallIsWatched has LVM make it and the call fail.
func TestASnapshotThatStandsAfterAFailedCallIsWatched(t *testing.T) {
	n := node(t)
	mustEnsure(t, n, spec())
	must(t, n.Host().CreateSnapshot(t.Context(), lvm.CreateSnapshot{
		Group: "fast", Origin: id, Name: snapID, Size: 4 * mib,
		Tags: []string{volume.SnapshotTag(snapID), volume.SourceTag(id), volume.CreatedTag(time.Unix(1, 0)), volume.SourceSizeTag(8 * mib)},
	}))
	mustSnapshot(t, n, shot())
	if got := n.Watched(); len(got) != 1 || got[0].Name != snapID || got[0].Origin != id {
		t.Errorf("watched are %+v", got)
	}
}
