package extender

import (
	"cmp"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/storage/ephemeral"

	"github.com/open-local/open-local/pkg/slim"
)

// A podRecord is what is kept of a pod.
type podRecord struct {
	slim.Meta
	uid     string
	node    string // where it is, or empty
	said    string // by the scheduler, of a pod that it found no node for
	ended   bool   // it will not run any more
	volumes []podVolume
}

// A podVolume is a volume of a pod that may be ours: a claim's, or an inline one of our
// driver.
type podVolume struct {
	claim     string  // namespace/name
	inline    *inline // nil where there is a claim
	ephemeral bool    // the claim is made for the pod
}

// inline is what a pod says of an inline volume.
type inline struct {
	name       string
	attributes map[string]string
}

// podOf returns what is kept of a pod.
func podOf(driver string, o *corev1.Pod) *podRecord {
	p := &podRecord{
		Meta: slim.MetaOf(o), uid: string(o.UID), node: o.Spec.NodeName,
		ended: o.Status.Phase == corev1.PodSucceeded || o.Status.Phase == corev1.PodFailed,
	}
	for i := range o.Spec.Volumes {
		v := &o.Spec.Volumes[i]
		switch {
		case v.PersistentVolumeClaim != nil:
			p.volumes = append(p.volumes, podVolume{claim: o.Namespace + "/" + v.PersistentVolumeClaim.ClaimName})
		case v.Ephemeral != nil:
			p.volumes = append(p.volumes, podVolume{claim: o.Namespace + "/" + ephemeral.VolumeClaimName(o, v), ephemeral: true})
		case v.CSI != nil && v.CSI.Driver == driver:
			p.volumes = append(p.volumes, podVolume{inline: &inline{name: v.Name, attributes: v.CSI.VolumeAttributes}})
		}
	}
	if p.concerns() {
		p.said = unschedulable(o)
	}
	return p
}

// concerns reports whether any volume of the pod may be ours. Most pods are done here.
func (p *podRecord) concerns() bool { return len(p.volumes) > 0 }

// reference returns what an event on the pod names.
func (p *podRecord) reference() *corev1.ObjectReference {
	return &corev1.ObjectReference{
		APIVersion: "v1", Kind: "Pod", Namespace: p.Namespace(), Name: p.Name(),
		UID: types.UID(p.uid), ResourceVersion: p.GetObjectMeta().GetResourceVersion(),
	}
}

// unschedulable returns what the scheduler said of a pod it found no node for.
func unschedulable(pod *corev1.Pod) string {
	for i := range pod.Status.Conditions {
		c := &pod.Status.Conditions[i]
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return cmp.Or(c.Message, c.Reason)
		}
	}
	return ""
}

// claims returns namespace/name of the claims that the pod uses.
func (p *podRecord) claims() []string {
	var all []string
	for i := range p.volumes {
		if claim := p.volumes[i].claim; claim != "" {
			all = append(all, claim)
		}
	}
	return all
}
