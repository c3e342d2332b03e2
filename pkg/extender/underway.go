package extender

import (
	"time"

	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// When an extender starts, nodes may be at work for which another one kept room: a volume
// grows, or a snapshot is made that no report names yet. What shows in the API server that
// they may be, and how much was kept then, is read here, and kept again before anything is
// promised anew. See ledger.Recall.

// A begunSnapshot is one that is being made, or was.
type begunSnapshot struct {
	name   string // of the logical volume
	of     string // the handle of the volume
	policy volume.SnapshotPolicy
}

// underWay keeps room for all that may be under way.
func (s *Scheduler) underWay(claims []*claimRecord) {
	for _, claim := range claims {
		s.growing(claim) // what was kept for it is there
	}
	for _, snapshot := range s.caches.contents.begun(s.o.SnapshotPrefix, s.clock.Now().Add(-promiseFactor*s.o.HoldTimeout)) {
		if of, is := s.ledger.Where(volume.NameOf(snapshot.of)); is {
			s.ledger.Recall(ledger.Room{Volume: snapshot.name, Node: of.Node, Group: of.Group, Size: snapshot.policy.SpaceFor(of.Size), New: true}, s.late())
		}
	}
	for _, claim := range claims {
		s.cloning(claim)
	}
}

// growing keeps room for a volume that csi-resizer has begun to grow.
func (s *Scheduler) growing(claim *claimRecord) {
	begun := claim.more().begun
	pv, known := s.caches.volumes.Get(claim.volume)
	if begun == 0 || !known {
		return
	}
	p, ours := pv.placed()
	if ours && p.kind == volume.LVM && !p.shows && p.spot.Size < begun {
		s.ledger.Keep(ledger.Room{Volume: p.name, Node: p.node, Group: p.spot.Group, Size: begun}, s.late())
	}
}

// cloning keeps room for the snapshot from which a claim's volume may be copied.
func (s *Scheduler) cloning(claim *claimRecord) {
	from := claim.more().source
	if !isClaim(from) {
		return
	}
	class, err := s.classOf(claim)
	if class == nil || err != nil || claim.selected() == "" && waitsForConsumer(class) {
		return
	}
	source, err := s.volumeOfClaim(claim.Namespace() + "/" + from.Name)
	if err != nil {
		return
	}
	if of, is := s.ledger.Where(source.name); is {
		s.ledger.Recall(ledger.Room{
			Volume: volume.CloneName(s.o.volumeOf(claim.uid())), Node: of.Node, Group: of.Group, Size: volume.CloneSpace(of.Size), New: true,
		}, s.late())
	}
}

// begun returns the snapshots of ours that are being made, and those made since then: reports
// may not name them yet.
func (c *contents) begun(prefix string, since time.Time) []begunSnapshot {
	if c == nil {
		return nil
	}
	var begun []begunSnapshot
	for _, obj := range c.informer.GetStore().List() {
		content, is := obj.(*unstructured.Unstructured)
		if !is || textIn(content, "spec", "driver") != c.driver {
			continue
		}
		handle, made := textIn(content, "status", "snapshotHandle"), textIn(content, "metadata", "annotations", beingCreated) == ""
		if at, _, _ := unstructured.NestedInt64(content.Object, creationTime...); made && (handle == "" || at < since.UnixNano()) {
			continue
		}
		if handle == "" {
			handle = volume.ForSnapshot(prefix, textIn(content, "spec", "volumeSnapshotRef", "uid"))
		}
		of := textIn(content, "spec", "source", "volumeHandle")
		if policy, valid := c.policy(textIn(content, "spec", "volumeSnapshotClassName")); valid && of != "" {
			begun = append(begun, begunSnapshot{volume.NameOf(handle), of, policy})
		}
	}
	return begun
}

// policy returns what the class says, and false when no snapshot is made by it. Of one that
// is gone nobody knows what it said.
func (c *contents) policy(class string) (volume.SnapshotPolicy, bool) {
	obj, known, _ := c.classes.GetStore().GetByKey(class) // from memory, which does not fail
	object, is := obj.(*unstructured.Unstructured)
	if !known || !is {
		return volume.DefaultSnapshotPolicy, true
	}
	params, _, err := unstructured.NestedStringMap(object.Object, "parameters")
	if err != nil {
		return volume.SnapshotPolicy{}, false
	}
	policy, err := volume.ParseSnapshotParameters(params)
	return policy, err == nil
}
