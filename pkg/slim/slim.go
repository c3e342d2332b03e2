// Package slim is what caches keep instead of API objects of which a cluster has hundreds
// of thousands. An object of Kubernetes takes kilobytes however little of it is read, and
// 232 bytes for its metadata alone. What is kept here says which object it is of, and
// whoever keeps it adds what he reads.
package slim

import (
	"hash/fnv"
	"strconv"
	"strings"
	"unique"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/pkg/volume"
)

// Meta says which object something is kept of, and which version of it. What embeds it can
// be kept in the caches of client-go, under the key that they give to the object itself.
type Meta struct {
	key     string
	version uint64
}

// MetaOf returns that of an object.
func MetaOf(o metav1.Object) Meta {
	m := Meta{key: o.GetName(), version: versionOf(o.GetResourceVersion())}
	if namespace := o.GetNamespace(); namespace != "" {
		m.key = namespace + "/" + m.key
	}
	return m
}

// versionOf returns the number that a version is. One that is none, as no API server has
// it, gets a number too: caches compare whether versions are the same.
func versionOf(version string) uint64 {
	if number, err := strconv.ParseUint(version, 10, 64); err == nil {
		return number
	}
	if version == "" {
		return 0
	}
	h := fnv.New64a()
	_, _ = h.Write([]byte(version)) // it never fails
	return h.Sum64()
}

// Key returns namespace/name, or the name of what is in no namespace.
func (m *Meta) Key() string { return m.key }

// Version returns the object's version; 0 when it has none.
func (m *Meta) Version() uint64 { return m.version }

// Namespace returns the object's namespace.
func (m *Meta) Namespace() string {
	namespace, _, within := strings.Cut(m.key, "/")
	if !within {
		return ""
	}
	return namespace
}

// Name returns the object's name.
func (m *Meta) Name() string { return m.key[strings.IndexByte(m.key, '/')+1:] }

// ShareKey has the key lie in the memory of another string if it is the same.
func (m *Meta) ShareKey(other string) { m.key = Share(m.key, other) }

// GetObjectMeta implements metav1.ObjectMetaAccessor, for caches alone: to them the key is
// the name of something in no namespace. So the key that they make of it is this one, and
// takes no memory of its own.
func (m *Meta) GetObjectMeta() metav1.Object {
	o := &metav1.ObjectMeta{Name: m.key}
	if m.version != 0 {
		o.ResourceVersion = strconv.FormatUint(m.version, 10)
	}
	return o
}

// Share returns s in the memory of another string that contains it, or as it is.
func Share(s, other string) string {
	if at := strings.Index(other, s); at >= 0 {
		return other[at : at+len(s)]
	}
	return s
}

// Once returns s in memory that all who say the same share. It is for names of which there
// are few.
func Once[S ~string](s S) S {
	if s == "" {
		return ""
	}
	return S(unique.Make(string(s)).Value())
}

// NodeOf returns the one node that the affinity of a PersistentVolume allows, or "".
func NodeOf(pv *corev1.PersistentVolume) string {
	if pv.Spec.NodeAffinity == nil || pv.Spec.NodeAffinity.Required == nil {
		return ""
	}
	for _, term := range pv.Spec.NodeAffinity.Required.NodeSelectorTerms {
		for _, match := range term.MatchExpressions {
			if match.Key == volume.TopologyKey && match.Operator == corev1.NodeSelectorOpIn && len(match.Values) == 1 {
				return match.Values[0]
			}
		}
	}
	return ""
}
