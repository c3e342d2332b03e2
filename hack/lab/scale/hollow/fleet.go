// Package hollow plays nodes that have no machine: the volume groups of each, the node API
// that the CSI controller calls, the agents' reports and what a kubelet does for a pod. What
// a hollow node holds is the truth by which promises are judged. It does not know who
// schedules.
package hollow

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc/peer"
	"k8s.io/client-go/util/workqueue"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// Extent is the unit of allocation of every group.
const Extent = 4 * capacity.MiB

// Shape says what every node is made of.
type Shape struct {
	Nodes, Groups int            // nodes, and volume groups of each
	Standing      int            // volumes that each node has from the beginning
	Size          capacity.Bytes // of each of them
	Room          capacity.Bytes // that each group has beside them
	MakingTakes   time.Duration  // how long a node works on one volume
}

// A Fleet is all nodes.
type Fleet struct {
	shape   Shape
	nodes   []*Node
	byName  map[string]*Node
	changed workqueue.TypedDelayingInterface[*Node] // nodes that have something new to report

	made, removed, refused atomic.Int64
}

// A Node is one of them.
type Node struct {
	Name  string
	index int

	mu       sync.Mutex // guards the fields below
	groups   []*group
	changeAt time.Time // of what it holds
}

type group struct {
	name    string
	size    capacity.Bytes
	volumes map[string]capacity.Bytes // by handle
}

func (g *group) free() capacity.Bytes {
	left := g.size
	for _, size := range g.volumes {
		left -= size
	}
	return left
}

// NewFleet makes the nodes.
func NewFleet(shape Shape) *Fleet {
	f := &Fleet{shape: shape, byName: map[string]*Node{}, changed: workqueue.NewTypedDelayingQueue[*Node]()}
	for i := range shape.Nodes {
		node := &Node{Name: fmt.Sprintf("hollow-%05d", i), index: i}
		for j := range shape.Groups {
			g := &group{name: fmt.Sprintf("open-local-pool-%d", j), size: shape.Room, volumes: map[string]capacity.Bytes{}}
			for range standingIn(shape, j) {
				g.volumes[standingID(i, j, len(g.volumes))] = shape.Size
				g.size += shape.Size
			}
			node.groups = append(node.groups, g)
		}
		f.nodes = append(f.nodes, node)
		f.byName[node.Name] = node
	}
	return f
}

// standingIn returns how many of a node's standing volumes are in its group j.
func standingIn(shape Shape, j int) int {
	return (shape.Standing + shape.Groups - 1 - j) / shape.Groups
}

// standingID is the handle of a volume that stood before; it has the form of others.
func standingID(node, group, volume int) string {
	return fmt.Sprintf("local-00000000-0000-4000-8000-%04x%02x%06x", volume, group, node)
}

// first is the address of the first node; all are on this machine.
var first = binary.BigEndian.Uint32([]byte{127, 64, 0, 1})

// Address is where the node answers.
func (n *Node) Address() netip.Addr {
	var a [4]byte
	binary.BigEndian.PutUint32(a[:], first+uint32(n.index))
	return netip.AddrFrom4(a)
}

// called returns the node whose address was called.
func (f *Fleet) called(ctx context.Context) (*Node, error) {
	caller, ok := peer.FromContext(ctx)
	if !ok {
		return nil, fmt.Errorf("%w call: nobody made it", volume.ErrInvalid)
	}
	at, ok := caller.LocalAddr.(*net.TCPAddr)
	if !ok {
		return nil, fmt.Errorf("%w call: it came to %v, which is no address of a node", volume.ErrInvalid, caller.LocalAddr)
	}
	index := int(binary.BigEndian.Uint32(at.IP.To4())) - int(first)
	if index < 0 || index >= len(f.nodes) {
		return nil, fmt.Errorf("%w call: no node has the address %v", volume.ErrInvalid, at.IP)
	}
	return f.nodes[index], nil
}

// Ensure makes the volume exist on the node that was called. Like LVM, it takes no more
// than there is.
func (f *Fleet) Ensure(ctx context.Context, spec provision.Spec) (provision.Volume, error) {
	node, err := f.called(ctx)
	if err != nil {
		return provision.Volume{}, err
	}
	if err := f.work(ctx); err != nil {
		return provision.Volume{}, err
	}
	made, fresh, err := node.ensure(spec)
	switch {
	case err != nil:
		f.refused.Add(1)
		return made, fmt.Errorf("node %s: %w", node.Name, err)
	case fresh:
		f.made.Add(1)
		f.changed.AddAfter(node, quiet)
	}
	return made, nil
}

// work takes the time that a node takes.
func (f *Fleet) work(ctx context.Context) error {
	if f.shape.MakingTakes == 0 {
		return nil
	}
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(f.shape.MakingTakes):
		return nil
	}
}

func (n *Node) ensure(spec provision.Spec) (made provision.Volume, fresh bool, err error) {
	n.mu.Lock()
	defer n.mu.Unlock()
	size := spec.Size.Extents(Extent)
	for _, g := range n.groups {
		if has, ok := g.volumes[spec.ID]; ok {
			if has < size {
				return made, false, fmt.Errorf("volume %s has %s, not %s: %w", spec.ID, has, size, provision.ErrConflict)
			}
			return provision.Volume{ID: spec.ID, Group: g.name, Size: has}, false, nil
		}
	}
	g := n.choose(cmp.Or(spec.Group, spec.OnlyGroup), size)
	switch {
	case g == nil:
		return made, false, fmt.Errorf("volume %s: group %q: %w", spec.ID, spec.Group, provision.ErrUnmanaged)
	case g.free() < size:
		return made, false, fmt.Errorf("volume %s: %s asked, %s free in %s: %w", spec.ID, size, g.free(), g.name, lvm.ErrNoSpace)
	}
	g.volumes[spec.ID] = size
	n.changeAt = time.Now()
	return provision.Volume{ID: spec.ID, Group: g.name, Size: size}, true, nil
}

// choose returns the group of that name, or of all the fullest with room, or any.
func (n *Node) choose(name string, size capacity.Bytes) *group {
	var best *group
	for _, g := range n.groups {
		switch {
		case name != "" && name != g.name:
		case best == nil, g.free() >= size && (best.free() < size || g.free() < best.free()):
			best = g
		}
	}
	return best
}

// Remove makes the volume not exist on the node that was called.
func (f *Fleet) Remove(ctx context.Context, r provision.Removal) error {
	node, err := f.called(ctx)
	if err != nil {
		return err
	}
	if err := f.work(ctx); err != nil {
		return err
	}
	if node.remove(r.ID) {
		f.removed.Add(1)
		f.changed.AddAfter(node, quiet)
	}
	return nil
}

func (n *Node) remove(id string) bool {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, g := range n.groups {
		if _, ok := g.volumes[id]; ok {
			delete(g.volumes, id)
			n.changeAt = time.Now()
			return true
		}
	}
	return false
}

// A Refusal by a hollow node is of the kind that it does not know.
var errNotHollow = fmt.Errorf("%w call: hollow nodes make and remove volumes, and nothing else", volume.ErrInvalid)

// Grow fails.
func (f *Fleet) Grow(context.Context, provision.Growth) (capacity.Bytes, error) {
	return 0, errNotHollow
}

// Modify fails.
func (f *Fleet) Modify(context.Context, provision.Modification) error { return errNotHollow }

// Snapshot fails.
func (f *Fleet) Snapshot(context.Context, provision.SnapshotSpec) (provision.Snapshot, error) {
	return provision.Snapshot{}, errNotHollow
}

// RemoveSnapshot fails.
func (f *Fleet) RemoveSnapshot(context.Context, provision.SnapshotRemoval) error { return errNotHollow }

// Counts is what nodes did so far.
type Counts struct {
	Made, Removed int64
	Refused       int64 // volumes that were to be made and had no room
}

// Counts returns what the nodes did so far.
func (f *Fleet) Counts() Counts {
	return Counts{Made: f.made.Load(), Removed: f.removed.Load(), Refused: f.refused.Load()}
}

// Largest returns the largest volume that the node can still make, what all its groups have
// left, and since when.
func (f *Fleet) Largest(name string) (largest, left capacity.Bytes, since time.Time) {
	node, ok := f.byName[name]
	if !ok {
		return 0, 0, time.Time{}
	}
	node.mu.Lock()
	defer node.mu.Unlock()
	for _, g := range node.groups {
		largest, left = max(largest, g.free()), left+g.free()
	}
	return largest, left, node.changeAt
}

// Names returns the names of all nodes.
func (f *Fleet) Names() []string {
	names := make([]string, len(f.nodes))
	for i, node := range f.nodes {
		names[i] = node.Name
	}
	return names
}

// Room returns how many volumes of that size there is room for.
func (f *Fleet) Room(size capacity.Bytes) int {
	room := 0
	for _, node := range f.nodes {
		node.mu.Lock()
		for _, g := range node.groups {
			room += int(g.free() / size)
		}
		node.mu.Unlock()
	}
	return room
}

// held returns what a group holds, ordered.
func (g *group) held() []string {
	ids := make([]string, 0, len(g.volumes))
	for id := range g.volumes {
		ids = append(ids, id)
	}
	slices.Sort(ids)
	return ids
}

// Volumes returns how many volumes there are.
func (f *Fleet) Volumes() int {
	count := 0
	for _, node := range f.nodes {
		node.mu.Lock()
		for _, g := range node.groups {
			count += len(g.volumes)
		}
		node.mu.Unlock()
	}
	return count
}
