// Package follow keeps of all objects of a kind what somebody reads of them, as informers
// of client-go keep the objects: it lists, watches, and tells of what is new, has changed
// or is gone. Where informers have a map, an index of maps, a queue and a buffer of news
// that keeps the size it once had, it has tables of pointers, and calls whoever listens
// as news come in. In clusters with hundreds of thousands of objects that is most of what
// small records take.
package follow

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/cache"
	"k8s.io/utils/clock"
)

// A Record is what is kept of one object. It is a pointer, and never changes.
type Record interface {
	comparable
	Key() string     // namespace/name, or the name
	Version() uint64 // of the object; 0 when it has none
}

// Options say what is followed.
type Options[T Record] struct {
	Name   string // of the kind, for errors
	Source Source
	Type   runtime.Object // an empty object of the kind
	// Keep returns what is kept of an object.
	Keep func(runtime.Object) T
	// PageSize is how many objects are read at one time where lists are not streamed; 0
	// for 2,000.
	PageSize int64
	// Clock tells when the API server was heard; nil for that of the machine.
	Clock clock.PassiveClock
	// Indexes return the values under which a record is found, by the name of the index.
	Indexes map[string]func(T) []string
}

// A Cache has the records of one kind. Its methods may be called from any goroutine.
type Cache[T Record] struct {
	o    Options[T]
	seed maphash.Seed
	seen func(before, now T)
	gone func(last T)

	synced chan struct{}
	once   sync.Once    // closes synced
	heard  atomic.Int64 // in nanoseconds since 1970

	mu      sync.RWMutex // guards what follows
	records table[T]
	indexes map[string]*table[T]
}

// New returns a Cache that is empty until it runs.
func New[T Record](o Options[T]) *Cache[T] {
	c := &Cache[T]{o: o, seed: maphash.MakeSeed(), synced: make(chan struct{}), indexes: map[string]*table[T]{}}
	for name := range o.Indexes {
		c.indexes[name] = &table[T]{}
	}
	if o.Clock == nil {
		c.o.Clock = clock.RealClock{}
	}
	c.hear()
	return c
}

// Listen has seen called for each record that is new, with a zero before, or has changed,
// and gone for those that are gone. They are called one at a time, and hold up what comes
// after. Listen must be called before Run, once.
func (c *Cache[T]) Listen(seen func(before, now T), gone func(last T)) { c.seen, c.gone = seen, gone }

// Run follows until ctx ends.
func (c *Cache[T]) Run(ctx context.Context) {
	cache.NewReflectorWithOptions(c.source(), c.o.Type, sink[T]{c}, cache.ReflectorOptions{Name: c.o.Name}).RunWithContext(ctx)
}

// Wait returns when all objects that there are have been seen, or with an error when ctx
// ends before.
func (c *Cache[T]) Wait(ctx context.Context) error {
	select {
	case <-c.synced:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("reading all %s: %w", c.o.Name, context.Cause(ctx))
	}
}

// Heard returns when the API server last said anything about objects of the kind, be it
// that there is no news, as it does about every minute. Before it has, that is when the
// Cache was made.
func (c *Cache[T]) Heard() time.Time { return time.Unix(0, c.heard.Load()) }

func (c *Cache[T]) hear() { c.heard.Store(c.o.Clock.Now().UnixNano()) }

func (c *Cache[T]) hash(s string) uint32 { return uint32(maphash.String(c.seed, s) >> 32) }

// Get returns the record under the key, if there is one.
func (c *Cache[T]) Get(key string) (T, bool) {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.get(&c.records, key)
}

func (c *Cache[T]) get(records *table[T], key string) (T, bool) {
	for record := range records.under(c.hash(key)) {
		if record.Key() == key {
			return record, true
		}
	}
	var none T
	return none, false
}

// List returns all records, in no order.
func (c *Cache[T]) List() []T {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return slices.AppendSeq(make([]T, 0, c.records.count), c.records.all())
}

// Len returns how many records there are.
func (c *Cache[T]) Len() int {
	c.mu.RLock()
	defer c.mu.RUnlock()
	return c.records.count
}

// By returns the records that the index has under the value, in no order.
func (c *Cache[T]) By(index, value string) []T {
	values, under := c.o.Indexes[index], c.indexes[index]
	c.mu.RLock()
	defer c.mu.RUnlock()
	var found []T
	for record := range under.under(c.hash(value)) {
		if slices.Contains(values(record), value) && !slices.Contains(found, record) {
			found = append(found, record)
		}
	}
	return found
}

// Put keeps a record, in place of that with its key: who writes objects knows them before
// they are told of. What is older than what there is changes nothing.
func (c *Cache[T]) Put(record T) { c.put(record) }

// put is Put. It says what was there before, and whether the record is in its place now.
func (c *Cache[T]) put(record T) (before T, kept bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before, there := c.get(&c.records, record.Key())
	if there && record.Version() != 0 && record.Version() < before.Version() {
		return before, false
	}
	c.drop(record.Key())
	c.add(record)
	return before, true
}

// add adds a record, of whose key there is none. c.mu is held.
func (c *Cache[T]) add(record T) {
	c.records.add(c.hash(record.Key()), record)
	for name, values := range c.o.Indexes {
		for _, value := range values(record) {
			c.indexes[name].add(c.hash(value), record)
		}
	}
}

// Drop forgets the record under the key, if there is one.
func (c *Cache[T]) Drop(key string) (T, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.drop(key)
}

func (c *Cache[T]) drop(key string) (T, bool) {
	record, there := c.get(&c.records, key)
	if !there {
		return record, false
	}
	c.records.remove(c.hash(key), record)
	for name, values := range c.o.Indexes {
		for _, value := range values(record) {
			c.indexes[name].remove(c.hash(value), record)
		}
	}
	return record, true
}

// sink is where the reflector of client-go puts what it reads.
type sink[T Record] struct{ c *Cache[T] }

var errNoRecord = errors.New("nothing is kept of an object of this kind")

// record returns what is kept of an object, which may be a record already.
func (s sink[T]) record(obj any) (T, error) {
	switch o := obj.(type) {
	case T:
		return o, nil
	case boxed[T]:
		return o.record, nil
	case runtime.Object:
		return s.c.o.Keep(o), nil
	}
	var none T
	return none, fmt.Errorf("following %s: %w: %T", s.c.o.Name, errNoRecord, obj)
}

// Transformer has the reflector keep records while it lists.
func (s sink[T]) Transformer() cache.TransformFunc {
	return func(obj any) (any, error) { return s.record(obj) }
}

// Add implements cache.ReflectorStore.
func (s sink[T]) Add(obj any) error {
	now, err := s.record(obj)
	if err != nil {
		return err
	}
	if before, kept := s.c.put(now); kept {
		s.tell(before, now)
	}
	return nil
}

// Update implements cache.ReflectorStore.
func (s sink[T]) Update(obj any) error { return s.Add(obj) }

// Delete implements cache.ReflectorStore. It tells of the last state, which the API server
// sends with the news.
func (s sink[T]) Delete(obj any) error {
	last, err := s.record(obj)
	if err != nil {
		return err
	}
	if _, there := s.c.Drop(last.Key()); there && s.c.gone != nil {
		s.c.gone(last)
	}
	return nil
}

// Replace implements cache.ReflectorStore: these are all objects that there are.
func (s sink[T]) Replace(objs []any, _ string) error {
	c := s.c
	now := make([]T, len(objs))
	for i, obj := range objs {
		record, err := s.record(obj)
		if err != nil {
			return err
		}
		now[i] = record
	}
	before := c.replace(now)
	for record := range before.all() {
		if _, still := c.Get(record.Key()); !still && c.gone != nil {
			c.gone(record)
		}
	}
	for _, record := range now {
		known, _ := c.get(&before, record.Key())
		s.tell(known, record)
	}
	c.hear()
	c.once.Do(func() { close(c.synced) })
	return nil
}

// UpdateResourceVersion implements cache.ResourceVersionUpdater: the reflector calls it
// after each news, and when the API server says how far it is without any.
func (s sink[T]) UpdateResourceVersion(string) { s.c.hear() }

// replace puts all records in place of those that there are, and returns these.
func (c *Cache[T]) replace(now []T) table[T] {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := c.records
	c.records = table[T]{}
	c.records.roomFor(len(now))
	for name := range c.indexes {
		c.indexes[name] = &table[T]{}
	}
	for _, record := range now {
		c.add(record)
	}
	return before
}

// tell tells of what is new or has changed.
func (s sink[T]) tell(before, now T) {
	var none T
	same := before != none && now.Version() != 0 && before.Version() == now.Version()
	if !same && s.c.seen != nil {
		s.c.seen(before, now)
	}
}

// Resync implements cache.ReflectorStore.
func (s sink[T]) Resync() error { return nil }
