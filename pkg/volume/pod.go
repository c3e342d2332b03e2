package volume

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strings"
)

// A Pod is whom an inline volume is for.
type Pod struct {
	Namespace, Name, UID string
}

// String returns what a person calls the pod.
func (p Pod) String() string { return p.Namespace + "/" + p.Name }

// Tag returns the tag that says of an inline volume that it is for p.
func (p Pod) Tag() string { return PodTag(p.Namespace, p.Name, p.UID) }

// PodOf returns the pod that the tags of a volume name.
func PodOf(tags []string) (Pod, bool) {
	namespace, name, uid, ok := PodFromTags(tags)
	return Pod{Namespace: namespace, Name: name, UID: uid}, ok
}

// What the kubelet says beside the volumeAttributes of a pod. It overwrites what the
// author of the pod says under the same keys.
const (
	keyEphemeral    = kubeletKeys + "ephemeral"
	keyPodNamespace = kubeletKeys + "pod.namespace"
	keyPodName      = kubeletKeys + "pod.name"
	keyPodUID       = kubeletKeys + "pod.uid"
)

// SaysInline reports whether the kubelet says that a volume stands in the pod itself.
func SaysInline(attributes map[string]string) bool { return attributes[keyEphemeral] == "true" }

// Names of objects, and UIDs, as the API server lets them be: none is a path, and none
// has a slash in it.
var (
	objectName = regexp.MustCompile(`^[a-z0-9]([-a-z0-9.]{0,251}[a-z0-9])?$`)
	objectUID  = regexp.MustCompile(`^[a-zA-Z0-9]([-a-zA-Z0-9]{0,126}[a-zA-Z0-9])?$`)
)

// ParsePod reads which pod the kubelet says a volume is for. Every error is ErrInvalid.
func ParsePod(attributes map[string]string) (Pod, error) {
	pod := Pod{Namespace: attributes[keyPodNamespace], Name: attributes[keyPodName], UID: attributes[keyPodUID]}
	for _, field := range []struct {
		key, value string
		form       *regexp.Regexp
	}{
		{keyPodNamespace, pod.Namespace, objectName}, {keyPodName, pod.Name, objectName}, {keyPodUID, pod.UID, objectUID},
	} {
		switch {
		case field.value == "":
			return Pod{}, fmt.Errorf("%w inline volume: the kubelet does not say %q; the CSIDriver must have podInfoOnMount: true", ErrInvalid, field.key)
		case !field.form.MatchString(field.value):
			return Pod{}, fmt.Errorf("%w inline volume attribute %q: %q names nothing in a cluster", ErrInvalid, field.key, field.value)
		}
	}
	return pod, nil
}

// The target path of a volume: what the kubelet puts between its own directory, the
// UID of the pod, the name of the volume and the end
// (k8s.io/kubernetes/pkg/volume/csi, getTargetPath).
const (
	podsDir   = "pods"
	volumeDir = "volumes/kubernetes.io~csi"
	mountDir  = "mount"
)

// InlineTarget returns where a kubelet that works in the directory dir shows the inline
// volume of that name to the pod with that UID.
func InlineTarget(dir, podUID, name string) string {
	return filepath.Join(dir, podsDir, podUID, volumeDir, name, mountDir)
}

// InlineName returns the name of the volume that is shown at an InlineTarget.
func InlineName(target string) string { return filepath.Base(filepath.Dir(target)) }

// TargetIsOf reports whether the kubelet that works in the directory dir gives the
// inline volume id that target path: the path names pod and volume, of which the handle
// is made.
func TargetIsOf(dir, target, id string) bool {
	rest, below := strings.CutPrefix(target, filepath.Join(dir, podsDir)+"/")
	uid, _, _ := strings.Cut(rest, "/")
	name := InlineName(target)
	return below && InlineTarget(dir, uid, name) == target && ForInline(uid, name) == id
}
