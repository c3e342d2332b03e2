package slim_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/open-local/open-local/pkg/slim"
	"github.com/open-local/open-local/pkg/volume"
)

type record struct{ slim.Meta }

func TestARecordIsUnderTheKeyOfItsObject(t *testing.T) {
	for name, object := range map[string]metav1.Object{
		"of a namespace":         &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: "ns", Name: "p", ResourceVersion: "17"}},
		"of no namespace":        &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: "18"}},
		"without a version":      &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n"}},
		"with the largest there": &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "n", ResourceVersion: "18446744073709551615"}},
	} {
		t.Run(name, func(t *testing.T) {
			r := &record{slim.MetaOf(object)}
			want, err := cache.MetaNamespaceKeyFunc(object)
			if err != nil {
				t.Fatal(err)
			}
			if got, err := cache.MetaNamespaceKeyFunc(r); err != nil || got != want || r.Key() != want {
				t.Errorf("its key is %q to caches and %q, want %q: %v", got, r.Key(), want, err)
			}
			seen, err := meta.Accessor(r)
			if err != nil || seen.GetResourceVersion() != object.GetResourceVersion() {
				t.Errorf("its version is %q, want %q: %v", seen.GetResourceVersion(), object.GetResourceVersion(), err)
			}
			if r.Namespace() != object.GetNamespace() || r.Name() != object.GetName() {
				t.Errorf("it is %q in %q", r.Name(), r.Namespace())
			}
		})
	}
}

func TestAVersionThatIsNoNumberIsStillAnother(t *testing.T) {
	of := func(version string) uint64 {
		m := slim.MetaOf(&corev1.Node{ObjectMeta: metav1.ObjectMeta{ResourceVersion: version}})
		return m.Version()
	}
	if of("a") == of("b") || of("a") == 0 {
		t.Errorf("the versions a and b are %d and %d", of("a"), of("b"))
	}
}

func TestSharing(t *testing.T) {
	for name, test := range map[string]struct{ s, other string }{
		"the same":         {"abc", "abc"},
		"a part":           {"bc", "abc"},
		"another":          {"abd", "abc"},
		"empty":            {"", "abc"},
		"more than is the": {"abc", "b"},
	} {
		if got := slim.Share(test.s, test.other); got != test.s {
			t.Errorf("%s: got %q, want %q", name, got, test.s)
		}
		if got := slim.Once(test.s); got != test.s {
			t.Errorf("%s: got %q, want %q", name, got, test.s)
		}
	}
}

func TestTheNodeOfAVolume(t *testing.T) {
	match := func(key string, operator corev1.NodeSelectorOperator, values ...string) corev1.NodeSelectorRequirement {
		return corev1.NodeSelectorRequirement{Key: key, Operator: operator, Values: values}
	}
	got := map[string]string{}
	for name, matches := range map[string][]corev1.NodeSelectorRequirement{
		"one":              {match(volume.TopologyKey, corev1.NodeSelectorOpIn, "n1")},
		"behind another":   {match("zone", corev1.NodeSelectorOpIn, "z"), match(volume.TopologyKey, corev1.NodeSelectorOpIn, "n1")},
		"one of two":       {match(volume.TopologyKey, corev1.NodeSelectorOpIn, "n1", "n2")},
		"all but one":      {match(volume.TopologyKey, corev1.NodeSelectorOpNotIn, "n1")},
		"somebody else's":  {match("topology.example.com/node", corev1.NodeSelectorOpIn, "n1")},
		"nothing is asked": nil,
	} {
		pv := &corev1.PersistentVolume{}
		pv.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: matches}}}}
		got[name] = slim.NodeOf(pv)
	}
	got["no affinity"] = slim.NodeOf(&corev1.PersistentVolume{})
	want := map[string]string{"one": "n1", "behind another": "n1", "one of two": "", "all but one": "", "somebody else's": "", "nothing is asked": "", "no affinity": ""}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("nodes (-want +got):\n%s", diff)
	}
}
