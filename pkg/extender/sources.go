package extender

import (
	"errors"
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// A source is what a claim is made of. The zero source is nothing.
type source struct {
	what string // in words
	node string // where it lies
	// shown says that the claim's volume shows it and takes no room of its own.
	shown bool
}

// sourceOf returns what the claim is made of. While that cannot be told it is
// errLagging: kube-scheduler tries again soon.
func (s *Scheduler) sourceOf(claim *claimRecord) (source, error) {
	ref, namespace := claim.more().source, claim.Namespace()
	switch {
	case ref == nil:
		return source{}, nil
	case ref.Namespace != nil && *ref.Namespace != namespace:
		return source{}, fmt.Errorf("%w claim %s: it is made of what is in namespace %s", volume.ErrInvalid, claim.Key(), *ref.Namespace)
	}
	from := source{what: ref.Kind + " " + ref.Name}
	var err error
	switch {
	case isClaim(ref):
		var of placed
		of, err = s.volumeOfClaim(namespace + "/" + ref.Name)
		from.node = of.node
	case ref.Kind == "VolumeSnapshot" && ref.APIGroup != nil && *ref.APIGroup == snapshotGroup:
		from.node, from.shown, err = s.nodeOfSnapshot(namespace, ref.Name)
	default:
		return source{}, nil // somebody else fills the volume
	}
	if err != nil {
		return source{}, fmt.Errorf("claim %s is made of %s: %w", claim.Key(), from.what, err)
	}
	return from, nil
}

// isClaim tells whether what a claim is made of is another claim.
func isClaim(ref *corev1.TypedObjectReference) bool {
	return ref != nil && ref.Kind == "PersistentVolumeClaim" && (ref.APIGroup == nil || *ref.APIGroup == "")
}

// volumeOfClaim returns where the volume of a claim lies.
func (s *Scheduler) volumeOfClaim(key string) (placed, error) {
	claim, known := s.caches.claims.Get(key)
	switch {
	case !known:
		return placed{}, fmt.Errorf("no such claim: %w", errLagging)
	case claim.volume == "":
		return placed{}, fmt.Errorf("that has no volume yet: %w", errLagging)
	}
	pv, known := s.caches.volumes.Get(claim.volume)
	if !known {
		return placed{}, fmt.Errorf("its PersistentVolume %s: %w", claim.volume, errLagging)
	}
	of, ours := pv.placed()
	if !ours {
		return placed{}, fmt.Errorf("%w source: its volume is none of %s", volume.ErrInvalid, s.o.Driver)
	}
	return of, nil
}

// nodeOfSnapshot returns where a snapshot lies, and whether a claim made of it shows the
// snapshot itself.
func (s *Scheduler) nodeOfSnapshot(namespace, name string) (string, bool, error) {
	handle, err := s.caches.contents.handleOf(namespace, name)
	if err != nil {
		return "", false, err
	}
	for _, report := range s.caches.reports.By(bySnapshot, handle) {
		if snapshot, is := report.snapshot(handle); is {
			return report.Key(), snapshot.readOnly, nil
		}
	}
	return "", false, fmt.Errorf("no node reports snapshot %s: %w", handle, errLagging)
}

// beside makes claim one that lies where its source does.
func (from source) beside(claim volume.Claim) volume.Claim {
	claim.Node = from.node
	if from.shown {
		claim.Size, claim.Group, claim.Media, claim.Layout = 0, "", "", ""
	}
	return claim
}

// errElsewhere is why a node is refused that is not where a claim's source lies.
var errElsewhere = errors.New("what a claim of the pod is made of lies on another node")

// errThere is why a node is refused that is not where a volume of the pod is already.
var errThere = errors.New("a volume of the pod is there on another node")

// elsewhere returns why the node is not where the claims must lie, or nil.
func (p *plan) elsewhere(view *ledger.View) error {
	for i := range p.claims {
		if at := p.claims[i].Node; at != "" && at != view.Name {
			return p.pinned[i]
		}
	}
	return nil
}

// pins returns for each claim why nodes are refused but that of its source.
func pins(claims []volume.Claim) []error {
	pinned := make([]error, len(claims))
	for i := range claims {
		if claims[i].Node != "" {
			pinned[i] = fmt.Errorf("%w: claim %s, node %s", errElsewhere, claims[i].Name, claims[i].Node)
		}
	}
	return pinned
}
