package driver

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// defaultSize is the size of a volume for which none is asked.
const defaultSize = capacity.GiB

// Keys that csi-provisioner adds with --extra-create-metadata.
const (
	keyClaim     = "csi.storage.k8s.io/pvc/name"
	keyNamespace = "csi.storage.k8s.io/pvc/namespace"
)

// wanted is a CreateVolumeRequest, parsed.
type wanted struct {
	id               string
	access           access
	parameters       volume.Parameters
	size, limit      capacity.Bytes
	namespace, claim string
	nodes            []string // where it may lie, the best first; empty means anywhere

	source  provision.Source
	unsized bool    // no size was asked: what it is made of decides
	shows   *origin // the snapshot that it shows and that is not copied; or nil
}

// parseCreate reads a request. Every error is volume.ErrInvalid or
// provision.ErrOutOfRange.
func parseCreate(req *csi.CreateVolumeRequest) (wanted, error) {
	w := wanted{id: req.GetName(), claim: req.GetParameters()[keyClaim], namespace: req.GetParameters()[keyNamespace]}
	if err := volume.ValidID(w.id); err != nil {
		return w, err
	}
	var err error
	if w.access, err = parseSharedAccesses(req.GetVolumeCapabilities()); err != nil {
		return w, err
	}
	if w.parameters, err = parseLimited(req.GetParameters(), req.GetMutableParameters()); err != nil {
		return w, err
	}
	if err := w.access.of(w.parameters.Kind); err != nil {
		return w, fmt.Errorf("volume %s: %w", w.id, err)
	}
	if w.access.block {
		w.parameters.MkfsOptions = nil // the same class may be used for both
	} else if w.parameters.Kind == volume.MountPoint {
		w.access.fsType = "" // it has the file system that its node has made
	} else if err := volume.ValidMkfsOptions(w.access.fsType, w.parameters.MkfsOptions); err != nil {
		return w, fmt.Errorf("volume %s: parameter %q: %w", w.id, "mkfsOptions", err)
	}
	if w.source, err = parseSource(req.GetVolumeContentSource()); err != nil {
		return w, fmt.Errorf("volume %s: %w", w.id, err)
	}
	if w.source.Given() && w.parameters.Kind != volume.LVM {
		return w, fmt.Errorf("%w volume %s: a volume of type %s cannot begin as a copy; one of type LVM can", volume.ErrInvalid, w.id, w.parameters.Kind)
	}
	if w.source.Snapshot == "" {
		if err := w.access.onOneNode(); err != nil {
			return w, err
		}
	}
	w.unsized = req.GetCapacityRange().GetRequiredBytes() == 0
	if w.size, w.limit, err = parseRange(req.GetCapacityRange(), w.access); err != nil {
		return w, fmt.Errorf("volume %s: %w", w.id, err)
	}
	w.nodes, err = parseTopology(req.GetAccessibilityRequirements())
	return w, err
}

// context is what the PersistentVolume shall remember.
func (w wanted) context(place Place) volume.Context {
	return volume.Context{
		Kind: place.Kind, Group: place.Group, Identity: place.Identity, Path: place.Path,
		Snapshot: place.Snapshot, MkfsOptions: w.parameters.MkfsOptions, Limits: w.parameters.Limits,
	}
}

// tags are what the node shall keep with the volume.
func (w wanted) tags(driver, cluster string) []string {
	return append(volume.OwnerTags(driver, cluster, w.namespace, w.claim), volume.LimitTags(w.parameters.Limits)...)
}

func parseRange(r *csi.CapacityRange, a access) (size, limit capacity.Bytes, err error) {
	size, limit = capacity.Bytes(r.GetRequiredBytes()), capacity.Bytes(r.GetLimitBytes())
	switch {
	case size < 0, limit < 0, limit > 0 && size > limit:
		return 0, 0, fmt.Errorf("%w capacity range: at least %s, at most %s", volume.ErrInvalid, size, limit)
	case size == 0 && limit > 0:
		size = min(defaultSize, limit)
	case size == 0:
		size = defaultSize
	}
	if least := smallest[a.fsType]; size < least {
		return 0, 0, fmt.Errorf("%w: %s asked, %s needs at least %s", provision.ErrOutOfRange, size, a.fsType, least)
	}
	return size, limit, nil
}

// parseTopology returns the nodes that r names, the preferred ones first.
func parseTopology(r *csi.TopologyRequirement) ([]string, error) {
	var names []string
	for _, topology := range append(slices.Clone(r.GetPreferred()), r.GetRequisite()...) {
		name, ok := topology.GetSegments()[volume.TopologyKey]
		if !ok || name == "" {
			return nil, fmt.Errorf("%w topology %v: no %s", volume.ErrInvalid, topology.GetSegments(), volume.TopologyKey)
		}
		if !slices.Contains(names, name) {
			names = append(names, name)
		}
	}
	return names, nil
}

// create makes the volume where it was decided to lie, or on the first node that
// has room if any will do.
func (c *Controller) create(ctx context.Context, w wanted) (Place, error) {
	at, err := c.o.Directory.Find(w.id)
	if w.source.Given() {
		located, refusal := c.locate(w)
		// What is made already does not need its source any more.
		gone := errors.Is(refusal, ErrNoVolume) || errors.Is(refusal, ErrNoSnapshot)
		if refusal != nil && (err != nil || !gone) {
			if err == nil && noRoom(refusal) {
				return Place{}, c.leaveNothing(ctx, w, at, refusal)
			}
			return Place{}, refusal
		}
		w = located
	}
	if w.shows != nil {
		return w.show(), nil
	}
	return c.place(ctx, w, at, err)
}

// place makes the volume: at is where it lies already, unless missing says that it is
// not there.
func (c *Controller) place(ctx context.Context, w wanted, at Place, missing error) (Place, error) {
	err := missing
	switch {
	case err == nil && at.Kind != w.parameters.Kind:
		return Place{}, fmt.Errorf("volume %s: it is one of type %s and not %s: %w", w.id, at.Kind, w.parameters.Kind, provision.ErrConflict)
	case err == nil && w.parameters.Group != "" && w.parameters.Group != at.Group:
		return Place{}, fmt.Errorf("volume %s: it lies in volume group %s and only %s will do: %w", w.id, at.Group, w.parameters.Group, provision.ErrConflict)
	case err == nil && (len(w.nodes) == 0 || slices.Contains(w.nodes, at.Node)):
		place, err := c.createOn(ctx, w, at.Node, Decision{Group: at.Group, Identity: at.Identity, Path: at.Path}, true)
		if noRoom(err) {
			err = c.leaveNothing(ctx, w, at, err)
		}
		return place, err
	case err == nil:
		err = c.undo(ctx, w, at)
	case errors.Is(err, ErrNoVolume):
		err = nil
	}
	if err != nil {
		return Place{}, err
	}
	if len(w.nodes) == 1 {
		return c.placeOn(ctx, w, w.nodes[0])
	}
	return c.placeSomewhere(ctx, w)
}

// undo removes a volume that an earlier attempt made on a node where it cannot
// stay. Nobody has used it: it would have a PersistentVolume.
func (c *Controller) undo(ctx context.Context, w wanted, at Place) error {
	if at.Proven {
		return fmt.Errorf("volume %s: it lies on node %s and cannot stay there; it may lie on %q: %w", w.id, at.Node, w.nodes, provision.ErrConflict)
	}
	if err := c.remove(ctx, w.id, at); err != nil {
		return fmt.Errorf("undoing an earlier attempt: %w", err)
	}
	return nil
}

// leaveNothing returns a refusal for want of room, or another error while anything is left
// of the volume that an earlier attempt made.
func (c *Controller) leaveNothing(ctx context.Context, w wanted, at Place, refusal error) error {
	if err := c.undo(ctx, w, at); err != nil {
		return fmt.Errorf("%w; it cannot stay because: %v", err, refusal) //nolint:errorlint // says why, and is not that error
	}
	return refusal
}

// noRoom reports whether err is a refusal that says to whoever asked that nothing is left
// on the node.
func noRoom(err error) bool {
	return errors.Is(err, ErrNoRoom) || errors.Is(err, lvm.ErrNoSpace) || errors.Is(err, provision.ErrUnmanaged) || errors.Is(err, provision.ErrNoDevice)
}

// placeSomewhere tries the nodes that seem to have room, one after another. It
// goes on to the next only when the last has certainly made nothing.
func (c *Controller) placeSomewhere(ctx context.Context, w wanted) (Place, error) {
	refusal := fmt.Errorf("volume %s of %s: no node has room: %w", w.id, w.size, ErrNoRoom)
	for _, name := range c.withRoom(w) {
		place, err := c.placeOn(ctx, w, name)
		if err == nil || !noRoom(err) {
			return place, err
		}
		refusal = fmt.Errorf("volume %s of %s: no node has room; the last said: %w", w.id, w.size, err)
	}
	return Place{}, refusal
}

// claims returns w as it is placed.
func (w wanted) claims() []volume.Claim {
	claim := w.parameters.Like()
	claim.Volume, claim.Name, claim.Size = volume.NameOf(w.id), w.id, w.size
	return []volume.Claim{claim}
}

// withRoom returns the nodes on which w may lie and that seem to have room for it, in
// the order of the request, or the best first where any node will do: then no
// scheduler has weighed them.
func (c *Controller) withRoom(w wanted) []string {
	claim, names := w.claims(), slices.Clone(w.nodes)
	if len(names) == 0 {
		names = c.o.Nodes.Names()
	}
	scores := map[string]int64{}
	names = slices.DeleteFunc(names, func(name string) bool {
		node, known := c.o.Nodes.Capacity(name)
		if !known {
			return true
		}
		spots, err := allocator.Place(node, claim, c.o.Prefer)
		scores[name] = allocator.Score(node, claim, spots, c.o.Prefer)
		return err != nil
	})
	if len(w.nodes) == 0 {
		slices.SortStableFunc(names, func(a, b string) int { return cmp.Compare(scores[b], scores[a]) })
	}
	return names
}

// placeOn makes the volume on the node, where the scheduler says.
func (c *Controller) placeOn(ctx context.Context, w wanted, node string) (Place, error) {
	decision, err := c.decide(ctx, w, node)
	if err != nil {
		return Place{}, fmt.Errorf("volume %s on node %s: %w", w.id, node, err)
	}
	place, err := c.createOn(ctx, w, node, decision, false)
	if noRoom(err) && !w.source.Given() { // half a copy may stand
		c.giveUp(ctx, w.reservation(node), decision)
	}
	return place, err
}

// decide returns where on the node the volume goes, as far as it is not for the node to
// choose.
func (c *Controller) decide(ctx context.Context, w wanted, node string) (Decision, error) {
	switch {
	case c.o.Reserver != nil && w.claim != "":
		return c.o.Reserver.Reserve(ctx, w.reservation(node))
	case w.parameters.Media == "" || w.parameters.Kind != volume.LVM:
		return Decision{}, nil
	}
	// A node does not know what its groups are made of; its report does.
	n, known := c.o.Nodes.Capacity(node)
	if !known {
		return Decision{}, ErrNodeUnavailable
	}
	spots, err := allocator.Place(n, w.claims(), c.o.Prefer)
	if err != nil {
		return Decision{}, fmt.Errorf("%w: %w", ErrNoRoom, err)
	}
	return Decision{Group: spots[0].Group}, nil
}

// createOn makes the volume on the node, or makes one whole that stands there already.
func (c *Controller) createOn(ctx context.Context, w wanted, node string, where Decision, stands bool) (Place, error) {
	remote, err := c.o.Nodes.Connect(node)
	if err != nil {
		return Place{}, fmt.Errorf("volume %s on node %s: %w", w.id, node, err)
	}
	space, end, err := c.keepForClone(ctx, w, node, stands)
	if err != nil {
		return Place{}, fmt.Errorf("copying volume %s for volume %s on node %s: %w", w.source.Volume, w.id, node, err)
	}
	w.source.Space = space
	made, err := remote.Ensure(ctx, provision.Spec{
		ID: w.id, Kind: w.parameters.Kind, Group: where.Group, OnlyGroup: w.parameters.Group,
		Identity: where.Identity, Path: where.Path, Media: w.parameters.Media, Wipe: w.parameters.Wipe,
		Size: w.size, Limit: w.limit, Layout: w.parameters.Layout, Block: w.access.block,
		Tags: w.tags(c.o.Driver, c.o.Cluster), Source: w.source,
	})
	if err != nil {
		return Place{}, fmt.Errorf("making volume %s on node %s: %w", w.id, node, err)
	}
	end()
	return Place{Node: node, Kind: w.parameters.Kind, Group: made.Group, Identity: made.Identity, Path: made.Path, Size: made.Size}, nil
}
