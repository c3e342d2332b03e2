package provision

import (
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/open-local/open-local/pkg/capacity"
)

// A Watched is a snapshot of ours whose space must grow in time.
type Watched struct {
	Group, Name, Origin string // of logical volumes
	ID                  string // the snapshot handle; empty for what a clone is copied from
	// Namespace and VolumeSnapshot name the object that it is for, where that is known.
	Namespace, VolumeSnapshot string
	// Step is by how much the space grows at least, and Threshold how full it is then,
	// in percent.
	Step      capacity.Bytes
	Threshold int
}

func (w Watched) path() string { return w.Group + "/" + w.Name }

// watched remembers the snapshots of the node, so that nobody has to ask LVM for them.
type watched struct {
	mu     sync.Mutex // guards what follows
	byPath map[string]Watched
	news   chan struct{} // has an element when there is a snapshot that nobody has looked at
}

// changes returns a channel that says when a snapshot was added.
func (w *watched) changes() <-chan struct{} {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.channel()
}

// channel returns the channel of changes. w.mu is held.
func (w *watched) channel() chan struct{} {
	if w.news == nil {
		w.news = make(chan struct{}, 1)
	}
	return w.news
}

func (w *watched) add(s Watched) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.byPath == nil {
		w.byPath = map[string]Watched{}
	}
	w.byPath[s.path()] = s
	select {
	case w.channel() <- struct{}{}:
	default:
	}
}

func (w *watched) drop(group, name string) {
	w.mu.Lock()
	defer w.mu.Unlock()
	delete(w.byPath, group+"/"+name)
}

func (w *watched) all() []Watched {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.SortedFunc(maps.Values(w.byPath), func(a, b Watched) int { return strings.Compare(a.path(), b.path()) })
}

// Watched returns the snapshots of ours that are known, ordered.
func (p *Provisioner) Watched() []Watched { return p.logical.watched.all() }
