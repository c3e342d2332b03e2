package extender

import (
	"errors"
	"fmt"
	"net/http"
	"slices"

	"github.com/gin-gonic/gin"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/ledger"
	"github.com/open-local/open-local/pkg/volume"
)

// ExplainPath is where the extender explains a pod: ExplainPath/NAMESPACE/NAME.
const ExplainPath = "/scheduler/explain"

// An Explanation says where the volumes of a pod fit at this moment, and where not.
// All sizes are bytes.
type Explanation struct {
	Pod    string             `json:"pod"`              // namespace/name
	Node   string             `json:"node,omitempty"`   // where the pod is already
	Note   string             `json:"note,omitempty"`   // what holds for all nodes
	Claims []ExplainedClaim   `json:"claims,omitempty"` // what has no volume yet
	Nodes  []ExplainedVerdict `json:"nodes,omitempty"`  // by name
}

// An ExplainedClaim is what one volume of the pod wants.
type ExplainedClaim struct {
	Name   string         `json:"name"`
	Size   capacity.Bytes `json:"size"`
	Group  string         `json:"vgName,omitempty"`    // the only one that will do
	Media  capacity.Media `json:"mediaType,omitempty"` // the only one that will do
	Node   string         `json:"node,omitempty"`      // the only one that will do
	Layout string         `json:"lvmType,omitempty"`
	// WholeDisk says that no partition will do.
	WholeDisk bool `json:"wholeDisk,omitempty"`
}

// An ExplainedVerdict is whether one node will do.
type ExplainedVerdict struct {
	Node   string           `json:"node"`
	Fits   bool             `json:"fits"`
	Reason string           `json:"reason,omitempty"` // why not
	Final  bool             `json:"final,omitempty"`  // not even if other volumes were gone
	Groups []ExplainedGroup `json:"vgs,omitempty"`
}

// An ExplainedGroup is what one volume group of a node has for the pod.
type ExplainedGroup struct {
	Name    string         `json:"name"`
	Size    capacity.Bytes `json:"size"` // all that volumes of ours may fill
	Free    capacity.Bytes `json:"free"`
	Held    capacity.Bytes `json:"held,omitempty"` // of what is not free, for pods that are being placed now
	Trouble string         `json:"trouble,omitempty"`
}

// errNoPod says that there is no such pod.
var errNoPod = errors.New("no such pod")

// Explain looks at all nodes for the pod as Filter would, and holds nothing. Errors:
// errNoPod, errNotReady, or one that says what of the pod cannot be read yet.
func (s *Scheduler) Explain(namespace, name string) (*Explanation, error) {
	if !s.Ready() {
		return nil, errNotReady
	}
	pod, known := s.caches.pods.Get(namespace + "/" + name)
	if !known {
		return nil, fmt.Errorf("pod %s/%s: %w", namespace, name, errNoPod)
	}
	said := &Explanation{Pod: pod.Key(), Node: pod.node}
	claims, err := s.asks(pod)
	switch {
	case pod.ended:
		said.Note = "the pod has ended"
	case errors.Is(err, volume.ErrInvalid):
		said.Note = "no node will do: " + err.Error()
	case err != nil:
		return nil, fmt.Errorf("reading the volumes of pod %s/%s: %w", namespace, name, err)
	case !pod.concerns(), len(claims) == 0:
		said.Note = "no volume of " + s.o.Driver + " is to be placed for the pod: it has none, or those that it has are made already"
	default:
		for i := range claims {
			c := &claims[i]
			said.Claims = append(said.Claims, ExplainedClaim{c.Name, c.Size, c.Group, c.Media, c.Node, string(c.Layout), c.WholeDisk})
		}
		said.Nodes = s.verdicts(pod, claims)
	}
	return said, nil
}

// verdicts looks at every node of the cluster.
func (s *Scheduler) verdicts(pod *podRecord, claims []volume.Claim) []ExplainedVerdict {
	names := s.nodeNames()
	s.ledger.Expire(s.clock.Now())
	var seen, free ledger.Views
	s.ledger.See(pod.uid, names, &seen)
	s.ledger.SeeWithoutHolds(names, &free)
	plan := s.plan(claims)
	verdicts := make([]ExplainedVerdict, 0, len(names))
	for i := range names {
		view, without := seen.At(i), free.At(i)
		v := ExplainedVerdict{Node: view.Name, Fits: true}
		if _, err := plan.place(&view, nil); err != nil {
			v.Fits, v.Reason, v.Final = false, err.Error(), final(err)
		}
		for g := range view.Groups {
			group := &view.Groups[g]
			said := ExplainedGroup{Name: group.Name, Size: group.Size, Free: view.Free[g], Trouble: group.Trouble}
			if g < len(without.Groups) && without.Groups[g].Name == group.Name { // a report may have come in between
				said.Held = max(0, without.Free[g]-view.Free[g])
			}
			v.Groups = append(v.Groups, said)
		}
		verdicts = append(verdicts, v)
	}
	return verdicts
}

// nodeNames returns the names of all nodes of the cluster and of those that have
// reported, ordered.
func (s *Scheduler) nodeNames() []string {
	names := s.ledger.Reported()
	names = append(names, s.caches.nodes.GetStore().ListKeys()...)
	slices.Sort(names)
	return slices.Compact(names)
}

// explain serves Explain.
func (s *Scheduler) explain(c *gin.Context) {
	said, err := s.Explain(c.Param("namespace"), c.Param("name"))
	switch {
	case errors.Is(err, errNoPod):
		c.String(http.StatusNotFound, err.Error())
	case err != nil:
		c.String(http.StatusServiceUnavailable, err.Error())
	default:
		c.JSON(http.StatusOK, said)
	}
}
