package extender

import (
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/slim"
)

// The caches hold every pod, claim and volume of the cluster, so they keep of each only
// what is read here: a record. One string, such as a volume's name, is in several of them;
// where the others are known already it is kept once.

func (c *caches) keepPod(o *corev1.Pod) *podRecord {
	p := podOf(c.driver, o)
	p.node = slim.Once(p.node)
	for i := range p.volumes {
		v := &p.volumes[i]
		if claim, known := c.claims.Get(v.claim); known {
			v.claim = slim.Share(v.claim, claim.Key())
		}
	}
	return p
}

func (c *caches) keepClaim(o *corev1.PersistentVolumeClaim) *claimRecord {
	claim := claimOf(o)
	if pv, known := c.volumes.Get(claim.volume); known {
		claim.volume = slim.Share(claim.volume, pv.Key())
		claim.ShareKey(pv.claim)
	}
	return claim
}

func (c *caches) keepReport(o *v1alpha1.NodeLocalStorage) *reportRecord {
	r := reportOf(o)
	for i := range r.says.Groups {
		volumes := r.says.Groups[i].Volumes
		for j := range volumes {
			if pv, known := c.volumes.Get(volumes[j].Name); known {
				volumes[j].Name = slim.Share(volumes[j].Name, pv.Key())
			}
		}
	}
	return r
}

// identity returns what tells an object from others.
func identity(m *metav1.ObjectMeta) metav1.ObjectMeta {
	return metav1.ObjectMeta{Name: m.Name, UID: m.UID, ResourceVersion: m.ResourceVersion}
}

// strip is the transform of nodes and classes.
func strip(obj any) (any, error) {
	switch o := obj.(type) {
	case *corev1.Node:
		return &corev1.Node{ObjectMeta: identity(&o.ObjectMeta)}, nil
	case *storagev1.StorageClass:
		return &storagev1.StorageClass{
			ObjectMeta:        identity(&o.ObjectMeta),
			Provisioner:       o.Provisioner,
			Parameters:        o.Parameters,
			VolumeBindingMode: o.VolumeBindingMode,
		}, nil
	}
	return obj, nil
}
