package directory

import (
	"context"
	"fmt"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/fields"
	"k8s.io/client-go/tools/cache"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	nlsinformers "github.com/open-local/open-local/pkg/client/informers/externalversions"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/volume"
)

// Own follows the report of one node and nothing else.
type Own struct {
	node     string
	informer cache.SharedIndexInformer
}

// NewOwn returns what the node manages, once Run is called.
func NewOwn(client versioned.Interface, node string) (*Own, error) {
	factory := nlsinformers.NewSharedInformerFactoryWithOptions(client, 0, nlsinformers.WithTweakListOptions(func(o *metav1.ListOptions) {
		o.FieldSelector = fields.OneTermEqualSelector(metav1.ObjectNameField, node).String()
	}))
	own := &Own{node: node, informer: factory.Csi().V1alpha1().NodeLocalStorages().Informer()}
	return own, own.informer.SetTransform(keepReport)
}

func keepReport(obj any) (any, error) {
	if nls, ok := obj.(*v1alpha1.NodeLocalStorage); ok {
		return reportOf(nls), nil
	}
	return obj, nil
}

// Run follows the report until ctx ends.
func (o *Own) Run(ctx context.Context) { o.informer.RunWithContext(ctx) }

// Ready returns nil once the report, or that there is none, is known.
func (o *Own) Ready() error {
	if !o.informer.HasSynced() {
		return fmt.Errorf("reading NodeLocalStorage %s: %w", o.node, provision.ErrNotReady)
	}
	return nil
}

// Managed returns the volume groups that volumes may be cut from, and how many bytes
// ours may have of each. Before the agent has reported it is provision.ErrNotReady.
func (o *Own) Managed() (map[string]capacity.Bytes, error) {
	r, err := o.report()
	if err != nil {
		return nil, err
	}
	managed := map[string]capacity.Bytes{}
	for _, group := range r.capacity().Groups {
		if !group.Kind.Whole() {
			managed[group.Name] = group.Size
		}
	}
	return managed, nil
}

// Offers returns the devices, or the mount points, that this node offers to volumes.
// Before the agent has reported it is provision.ErrNotReady.
func (o *Own) Offers(kind volume.Kind) ([]provision.Offer, error) {
	r, err := o.report()
	if err != nil {
		return nil, err
	}
	var offers []provision.Offer
	for _, w := range r.wholes {
		if w.kind == kind && w.offered && w.owner == "" && w.id != "" && w.trouble == "" {
			offers = append(offers, provision.Offer{Identity: w.id, Path: w.path, Size: w.size, Media: w.media})
		}
	}
	return offers, nil
}

// report returns the report of this node.
func (o *Own) report() (*report, error) {
	obj, reported, _ := o.informer.GetStore().GetByKey(o.node)
	r, is := obj.(*report)
	if !reported || !is || !r.running {
		return nil, fmt.Errorf("reading NodeLocalStorage %s: the agent has not reported: %w", o.node, provision.ErrNotReady)
	}
	return r, nil
}
