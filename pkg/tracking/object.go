package tracking

import (
	"context"
	"crypto/sha256"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/pkg/slim"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	// labelDriver is what csi-provisioner labels its objects with. What it published before
	// for the same driver is taken for what it is: objects of ours that are in nobody's hands.
	labelDriver = "csi.storage.k8s.io/drivername"
	// labelManagedBy says who publishes, so that a csi-provisioner leaves these alone.
	labelManagedBy = "csi.storage.k8s.io/managed-by"
	managedBy      = "open-local"

	// byNode is the index of objects by their nodes.
	byNode = "node"
)

// An object is what is kept of a CSIStorageCapacity, or what one should say.
type object struct {
	slim.Meta
	node, class   string
	room, largest int64 // bytes; -1 where it says nothing
}

func objectOf(c *storagev1.CSIStorageCapacity) *object {
	o := &object{Meta: slim.MetaOf(c), class: slim.Once(c.StorageClassName), room: -1, largest: -1}
	if c.NodeTopology != nil {
		o.node = slim.Once(c.NodeTopology.MatchLabels[volume.TopologyKey])
	}
	if c.Capacity != nil {
		o.room = c.Capacity.Value()
	}
	if c.MaximumVolumeSize != nil {
		o.largest = c.MaximumVolumeSize.Value()
	}
	return o
}

// name is the same for the same node, class and driver, so that nobody ever makes two.
func (o *object) name(driver string) string {
	sum := sha256.Sum256(fmt.Append(nil, driver, "\x00", o.class, "\x00", o.node))
	return fmt.Sprintf("open-local-%x", sum[:16])
}

func (p *Publisher) create(ctx context.Context, want *object) error {
	c := &storagev1.CSIStorageCapacity{
		ObjectMeta: metav1.ObjectMeta{
			Name: want.name(p.o.Driver), Namespace: p.o.Namespace,
			Labels: map[string]string{labelDriver: p.o.Driver, labelManagedBy: managedBy},
		},
		StorageClassName:  want.class,
		NodeTopology:      &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelHostname: want.node}},
		Capacity:          resource.NewQuantity(want.room, resource.BinarySI),
		MaximumVolumeSize: resource.NewQuantity(want.largest, resource.BinarySI),
	}
	if p.o.Owner != nil {
		c.OwnerReferences = []metav1.OwnerReference{*p.o.Owner}
	}
	now, err := p.o.Client.StorageV1().CSIStorageCapacities(p.o.Namespace).Create(ctx, c, metav1.CreateOptions{})
	return p.remembered(now, err, "creating", want)
}

func (p *Publisher) change(ctx context.Context, want *object) error {
	name := want.name(p.o.Driver)
	patch := fmt.Appendf(nil, `{"capacity":"%d","maximumVolumeSize":"%d"}`, want.room, want.largest)
	now, err := p.o.Client.StorageV1().CSIStorageCapacities(p.o.Namespace).Patch(ctx, name, types.MergePatchType, patch, metav1.PatchOptions{})
	if apierrors.IsNotFound(err) {
		p.objects.Drop(p.o.Namespace + "/" + name) // somebody removed it, and the next look makes it
	}
	return p.remembered(now, err, "changing", want)
}

func (p *Publisher) remove(ctx context.Context, have *object) error {
	err := p.o.Client.StorageV1().CSIStorageCapacities(p.o.Namespace).Delete(ctx, have.Name(), metav1.DeleteOptions{})
	if apierrors.IsNotFound(err) {
		err = nil
	}
	p.meter.count("removing", err)
	if err != nil {
		return fmt.Errorf("removing the capacity of class %q on node %q: %w", have.class, have.node, err)
	}
	p.objects.Drop(have.Key())
	return nil
}

// A class is what is kept of a StorageClass.
type class struct {
	slim.Meta
	like *volume.Claim // what its volumes have in common; nil where nothing is published
}

// classOf returns what is kept of a class. Capacity is looked at for classes that wait for
// the first consumer alone. Of one with mistakes nothing is published: no volume of it can
// be made, and its pods wait.
func classOf(sc *storagev1.StorageClass, driver string) *class {
	c := &class{Meta: slim.MetaOf(sc)}
	if sc.Provisioner != driver || sc.VolumeBindingMode == nil || *sc.VolumeBindingMode != storagev1.VolumeBindingWaitForFirstConsumer {
		return c
	}
	parameters, err := volume.ParseParameters(sc.Parameters)
	if err != nil {
		klog.Background().Error(err, "No capacity is published for a storage class", "class", sc.Name)
		return c
	}
	like := parameters.Like()
	c.like = &like
	return c
}
