package follow

import (
	"cmp"
	"context"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/apis/meta/internalversion"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/tools/cache"
)

// A Source lists and watches a kind.
type Source struct {
	clientset any // says whether its watches may begin with what there is
	list      func(context.Context, metav1.ListOptions) (runtime.Object, error)
	watch     func(context.Context, metav1.ListOptions) (watch.Interface, error)
}

// A lister is what generated clients have for a kind. L is its list.
type lister[L runtime.Object] interface {
	List(ctx context.Context, o metav1.ListOptions) (L, error)
	Watch(ctx context.Context, o metav1.ListOptions) (watch.Interface, error)
}

// From returns the Source that is a client of the clientset.
func From[L runtime.Object](clientset any, client lister[L]) Source {
	return Source{
		clientset: clientset, watch: client.Watch,
		list: func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) { return client.List(ctx, o) },
	}
}

// Selecting returns the Source of the objects that have these labels alone.
func (s Source) Selecting(labels string) Source {
	list, watching := s.list, s.watch
	s.list = func(ctx context.Context, o metav1.ListOptions) (runtime.Object, error) {
		o.LabelSelector = labels
		return list(ctx, o)
	}
	s.watch = func(ctx context.Context, o metav1.ListOptions) (watch.Interface, error) {
		o.LabelSelector = labels
		return watching(ctx, o)
	}
	return s
}

// source returns what the reflector of client-go reads.
func (c *Cache[T]) source() cache.ListerWatcher {
	return cache.ToListWatcherWithWatchListSemantics(&cache.ListWatch{
		ListWithContextFunc: c.list, WatchFuncWithContext: c.o.Source.watch,
	}, c.o.Source.clientset)
}

// pageSize is how many objects are in memory at one time where API servers do not stream,
// unless the kind has larger ones. Clients ask no more than some times a second.
const pageSize = 2000

// list returns the records of all objects. API servers before Kubernetes 1.34 do not
// stream lists. The reflector would ask them for all objects at once, which are kilobytes
// each, and keep them until it has the last; so they are read in pages, as they are now,
// and of each page only records are kept.
func (c *Cache[T]) list(ctx context.Context, _ metav1.ListOptions) (runtime.Object, error) {
	all, page := &internalversion.List{}, metav1.ListOptions{Limit: cmp.Or(c.o.PageSize, pageSize)}
	for {
		list, err := c.o.Source.list(ctx, page)
		if err != nil {
			return nil, err
		}
		about, err := meta.ListAccessor(list)
		if err != nil {
			return nil, err
		}
		if err := meta.EachListItem(list, func(o runtime.Object) error {
			all.Items = append(all.Items, boxed[T]{c.o.Keep(o)})
			return nil
		}); err != nil {
			return nil, err
		}
		all.ResourceVersion = about.GetResourceVersion()
		if page.Continue = about.GetContinue(); page.Continue == "" {
			return all, nil
		}
	}
}

// boxed is a record that looks like an object to the reflector, which passes it on.
type boxed[T Record] struct{ record T }

// GetObjectKind implements runtime.Object.
func (boxed[T]) GetObjectKind() schema.ObjectKind { return schema.EmptyObjectKind }

// DeepCopyObject implements runtime.Object. Records never change.
func (b boxed[T]) DeepCopyObject() runtime.Object { return b }
