package provision

import (
	"context"
	"errors"
	"maps"
	"slices"
	"strings"
	"sync"

	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// An Inline is an inline volume that stands, or may stand because a call that makes it
// has not ended well.
type Inline struct {
	ID, Group string
	// Pod is whom it is for. It is empty for a volume of the first open-local, which
	// set no tags; what such a volume is for can be told by its handle alone.
	Pod volume.Pod
}

// inlines remembers all inline volumes of the node, so that nobody has to ask LVM
// whether there are any.
type inlines struct {
	mu   sync.Mutex        // guards byID
	byID map[string]Inline // may hold more than stands, never less
}

// intend remembers the volume of spec, if it is one, before it is made.
func (i *inlines) intend(spec Spec, group string) {
	if pod, is := volume.PodOf(spec.Tags); is {
		i.remember(Inline{ID: spec.ID, Group: group, Pod: pod})
	}
}

func (i *inlines) remember(v Inline) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.byID == nil {
		i.byID = map[string]Inline{}
	}
	i.byID[v.ID] = v
}

func (i *inlines) forget(id string) {
	i.mu.Lock()
	defer i.mu.Unlock()
	delete(i.byID, id)
}

func (i *inlines) find(id string) (Inline, bool) {
	i.mu.Lock()
	defer i.mu.Unlock()
	v, known := i.byID[id]
	return v, known
}

func (i *inlines) all() []Inline {
	i.mu.Lock()
	defer i.mu.Unlock()
	return slices.SortedFunc(maps.Values(i.byID), func(a, b Inline) int { return strings.Compare(a.ID, b.ID) })
}

// inlineOf returns the inline volume that v is, if its tags say so, or if it has none
// of ours and the name that the first open-local gave.
func inlineOf(v lvm.Volume) (Inline, bool) {
	pod, forPod := volume.PodOf(v.Tags)
	id, tagged := volume.IDFromTags(v.Tags)
	switch {
	case forPod && tagged && volume.IsInline(id):
		return Inline{ID: id, Group: v.Group, Pod: pod}, true
	case volume.IsInline(v.Name) && !marked(v.Tags):
		return Inline{ID: v.Name, Group: v.Group}, true
	}
	return Inline{}, false
}

// marked reports whether any of the tags is one of ours.
func marked(tags []string) bool {
	return slices.ContainsFunc(tags, func(tag string) bool { return strings.HasPrefix(tag, volume.TagPrefix) })
}

// samePod reports whether two volumes are for the same pod, or both for none.
func samePod(a, b []string) bool {
	podA, _ := volume.PodOf(a)
	podB, _ := volume.PodOf(b)
	return podA == podB
}

// Inlines returns the inline volumes of this node, ordered by handle. It asks LVM only
// if nobody has yet.
func (p *Provisioner) Inlines(ctx context.Context) ([]Inline, error) {
	if err := p.logical.Recall(ctx); err != nil {
		return nil, err
	}
	return p.logical.inlines.all(), nil
}

// RemoveInline makes an inline volume not exist. One that is not there, or is not an
// inline volume of that handle, is a success and left alone: then no process is
// started. Proven says that the kubelet itself named the handle together with the pod
// and the volume it is made of, which is the proof for a volume without tags.
func (p *Provisioner) RemoveInline(ctx context.Context, id string, proven bool) error {
	if !volume.IsInline(id) {
		return nil
	}
	job, err := p.begin(id)
	if err != nil {
		return err
	}
	defer p.end(job)
	return p.logical.removeInline(ctx, id, proven)
}

func (l *Logical) removeInline(ctx context.Context, id string, proven bool) error {
	if err := l.Recall(ctx); err != nil {
		return err
	}
	v, known := l.inlines.find(id)
	if !known {
		return nil
	}
	if v.Pod == (volume.Pod{}) && !proven {
		return nil // nothing says that it may go
	}
	err := l.discard(ctx, v)
	switch {
	case errors.Is(err, lvm.ErrVolumeNotFound), errors.Is(err, lvm.ErrNotOurs):
		// It never came to be, was removed by hand, or is another's.
	case err != nil:
		return err
	default:
		klog.FromContext(ctx).Info("Removed inline volume", "volume", id, "group", v.Group, "pod", v.Pod.String())
	}
	l.inlines.forget(id)
	l.Standing.forget(volume.NameOf(id))
	return l.Making.End(volume.NameOf(id))
}

// discard removes the logical volume: one with tags only if they say that it is this
// very volume of this very pod, one without only from a group of ours.
func (l *Logical) discard(ctx context.Context, v Inline) error {
	if v.Pod != (volume.Pod{}) {
		return l.Host.DiscardVolume(ctx, v.Group, volume.NameOf(v.ID), volume.IDTag(v.ID), v.Pod.Tag())
	}
	managed, err := l.Managed.Managed()
	if err != nil {
		return err
	}
	if _, is := managed[v.Group]; !is {
		return lvm.ErrNotOurs
	}
	return l.removeUntagged(ctx, l.Host.DiscardVolume, v.Group, v.ID)
}
