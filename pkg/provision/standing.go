package provision

import (
	"slices"
	"sync"

	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/volume"
)

// Standing remembers the logical volumes of this node as LVM last told of them, for
// those who must not start a process to learn whose a volume is or what it is held to.
// What Logical changes it remembers at once; what others do to volumes it does not
// see. A nil Standing remembers nothing.
type Standing struct {
	mu      sync.Mutex // guards what follows
	volumes map[string]lvm.Volume
	changed chan struct{}
}

// NewStanding returns a Standing that knows no volume yet.
func NewStanding() *Standing {
	return &Standing{volumes: map[string]lvm.Volume{}, changed: make(chan struct{}, 1)}
}

// Volume returns the logical volume of that handle.
func (s *Standing) Volume(id string) (lvm.Volume, bool) {
	if s == nil {
		return lvm.Volume{}, false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, ok := s.volumes[volume.NameOf(id)]
	if tagged, isTagged := volume.IDFromTags(v.Tags); isTagged && tagged != id {
		return lvm.Volume{}, false
	}
	return v, ok
}

// Limits returns what the tags of the volume of that handle keep.
func (s *Standing) Limits(id string) volume.LimitChange {
	v, _ := s.Volume(id)
	return volume.KeptLimits(v.Tags)
}

// Claim returns the claim that the volume of that handle is for.
func (s *Standing) Claim(id string) (namespace, name string, ok bool) {
	v, _ := s.Volume(id)
	return volume.ClaimFromTags(v.Tags)
}

// Handle returns the handle of the logical volume of that name, if it is ours.
func (s *Standing) Handle(name string) (id string, ok bool) {
	if s == nil {
		return "", false
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	v, known := s.volumes[name]
	if id, tagged := volume.IDFromTags(v.Tags); tagged {
		return id, true
	}
	return name, known && !marked(v.Tags) && volume.LooksOurs(name)
}

// Open returns the handles of the volumes that were open when they were last seen,
// and their device files.
func (s *Standing) Open() map[string]string {
	s.mu.Lock()
	defer s.mu.Unlock()
	open := map[string]string{}
	for _, v := range s.volumes {
		if id, ok := volume.IDFromTags(v.Tags); ok && v.Open {
			open[id] = lvm.DevicePath(v.Group, v.Name)
		}
	}
	return open
}

// Changed returns a channel that has an element when something changed since the last
// one was taken. It is for one reader.
func (s *Standing) Changed() <-chan struct{} { return s.changed }

// remember keeps v, which replaces what was known of a volume of that name.
func (s *Standing) remember(v lvm.Volume) {
	s.change(func() { v.Tags = slices.Clone(v.Tags); s.volumes[v.Name] = v })
}

// learn keeps v if nothing was known of a volume of that name: what this process has
// done meanwhile is newer than a report.
func (s *Standing) learn(v lvm.Volume) {
	s.change(func() {
		if _, known := s.volumes[v.Name]; !known {
			s.volumes[v.Name] = v
		}
	})
}

// retag keeps that the tags of a volume are others.
func (s *Standing) retag(v lvm.Volume, add, del []string) {
	tags := slices.DeleteFunc(slices.Clone(v.Tags), func(t string) bool { return slices.Contains(del, t) })
	v.Tags = append(tags, add...)
	s.remember(v)
}

// forget drops the volume of that name.
func (s *Standing) forget(name string) { s.change(func() { delete(s.volumes, name) }) }

func (s *Standing) change(how func()) {
	if s == nil {
		return
	}
	s.mu.Lock()
	how()
	s.mu.Unlock()
	select {
	case s.changed <- struct{}{}:
	default: // one is waiting already
	}
}
