package directory_test

import (
	"slices"
	"sync"
	"testing"
	"testing/synctest"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	nlsfake "github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/directory"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/volume"
)

// TestWhoListensHearsOfEveryChange has nodes come, change and go, and volumes made and
// removed, and looks at which nodes are named.
func TestWhoListensHearsOfEveryChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		core, storage := fake.NewClientset(node("n1", corev1.ConditionTrue), node("n2", corev1.ConditionTrue)), nlsfake.NewSimpleClientset(report("n1", map[string][]string{"pool": {"a"}}))
		d, err := directory.New(directory.Options{Kubernetes: core, Storage: storage, Driver: volume.DefaultDriver, NodePort: 1736, NodeGrace: grace, Clock: newClock()})
		if err != nil {
			t.Fatal(err)
		}
		var mu sync.Mutex
		var heard []string
		d.Listen(func(node string) {
			mu.Lock()
			defer mu.Unlock()
			heard = append(heard, node)
		})
		if err := d.Run(t.Context()); err != nil {
			t.Fatal(err)
		}
		nodes, reports := core.CoreV1().Nodes(), storage.CsiV1alpha1().NodeLocalStorages()
		update := func(node *corev1.Node) func() error {
			return func() error {
				_, err := nodes.Update(t.Context(), node, metav1.UpdateOptions{})
				return err
			}
		}
		labelled, away := node("n1", corev1.ConditionTrue), node("n1", corev1.ConditionFalse)
		labelled.Labels = map[string]string{"rack": "7"}
		done := func(do func()) func() error { return func() error { do(); return nil } }
		for _, step := range []struct {
			when string
			do   func() error
			want []string
		}{
			{"it begins", done(func() {}), []string{"n1", "n2"}},
			{"a volume is made", done(func() { d.Remember("b", driver.Place{Node: "n1", Group: "pool", Size: gib}) }), []string{"n1"}},
			{"it is removed", done(func() { d.Forget("b") }), []string{"n1"}},
			{"one is removed that a report still shows", done(func() { d.Forget("a") }), nil},
			{"a snapshot is made", done(func() { d.RememberSnapshot("s", driver.SnapshotPlace{Node: "n2", Group: "pool", Space: gib}) }), []string{"n2"}},
			{"it is removed", done(func() { d.ForgetSnapshot("s") }), []string{"n2"}},
			{"a node gets a label", update(labelled), nil},
			{"a node cannot be reached", update(away), []string{"n1"}},
			{"a report changes", func() error {
				_, err := reports.Update(t.Context(), report("n1", map[string][]string{"pool": nil}), metav1.UpdateOptions{})
				return err
			}, []string{"n1"}},
			{"a report goes", func() error { return reports.Delete(t.Context(), "n1", metav1.DeleteOptions{}) }, []string{"n1"}},
			{"a node goes", func() error { return nodes.Delete(t.Context(), "n2", metav1.DeleteOptions{}) }, []string{"n2"}},
		} {
			if err := step.do(); err != nil {
				t.Fatal(err)
			}
			synctest.Wait()
			mu.Lock()
			slices.Sort(heard)
			if diff := cmp.Diff(step.want, slices.Compact(heard)); diff != "" {
				t.Errorf("%s (-want +got):\n%s", step.when, diff)
			}
			heard = nil
			mu.Unlock()
		}
	})
}
