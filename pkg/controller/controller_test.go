package controller_test

import (
	"errors"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	kubefake "k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/controller"
)

// A cluster is an API server with a Controller at work on it, all within a
// synctest bubble.
type cluster struct {
	t      *testing.T
	core   *kubefake.Clientset
	ours   *fake.Clientset
	events *record.FakeRecorder
}

// start runs a Controller over the objects until the test ends.
func start(t *testing.T, options controller.Options, objects ...runtime.Object) *cluster {
	t.Helper()
	var core, ours []runtime.Object
	for i, object := range objects {
		if meta, ok := object.(metav1.Object); ok && meta.GetUID() == "" {
			meta.SetUID(types.UID("uid-" + strconv.Itoa(i)))
		}
		if _, ok := object.(*corev1.Node); ok {
			core = append(core, object)
		} else {
			ours = append(ours, object)
		}
	}
	c := &cluster{
		t: t, core: kubefake.NewClientset(core...), ours: fake.NewSimpleClientset(ours...),
		events: record.NewFakeRecorder(100),
	}
	created := 0
	c.ours.PrependReactor("create", "*", func(action clienttesting.Action) (bool, runtime.Object, error) {
		created++
		object := action.(clienttesting.CreateAction).GetObject()
		object.(metav1.Object).SetUID(types.UID("created-" + strconv.Itoa(created)))
		return false, nil, nil
	})
	options.InitConfig = "open-local"
	ctrl, err := controller.New(c.core, c.ours, c.events, options)
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := ctrl.Run(t.Context()); err != nil {
			t.Error(err)
		}
	}()
	settle()
	return c
}

// writes returns what was written since it was last asked, as "verb name".
func (c *cluster) writes() []string {
	settle()
	var writes []string
	for _, action := range c.ours.Actions() {
		switch a := action.(type) {
		case clienttesting.CreateAction:
			writes = append(writes, "create "+a.GetObject().(metav1.Object).GetName())
		case clienttesting.PatchAction:
			writes = append(writes, "patch "+a.GetName()+a.GetSubresource())
		case clienttesting.DeleteAction:
			writes = append(writes, "delete "+a.GetName())
		}
	}
	c.ours.ClearActions()
	slices.Sort(writes) // workers run side by side
	return writes
}

func (c *cluster) wantWrites(want ...string) {
	c.t.Helper()
	if diff := cmp.Diff(want, c.writes()); diff != "" {
		c.t.Errorf("writes (-want +got):\n%s", diff)
	}
}

func (c *cluster) wantEvents(want ...string) {
	c.t.Helper()
	settle()
	var got []string
	for len(c.events.Events) > 0 {
		got = append(got, strings.Join(strings.Fields(<-c.events.Events)[:2], " "))
	}
	if diff := cmp.Diff(want, got); diff != "" {
		c.t.Errorf("events (-want +got):\n%s", diff)
	}
}

func (c *cluster) nls(name string) *v1alpha1.NodeLocalStorage {
	c.t.Helper()
	nls, err := c.ours.CsiV1alpha1().NodeLocalStorages().Get(c.t.Context(), name, metav1.GetOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	return nls
}

func (c *cluster) wantGroup(name, group string) {
	c.t.Helper()
	if diff := cmp.Diff([]string{group}, c.nls(name).Spec.ListConfig.VGs.Include); diff != "" {
		c.t.Errorf("groups of %s (-want +got):\n%s", name, diff)
	}
}

// edit changes an object in the API server as somebody else would.
func (c *cluster) edit(object runtime.Object) {
	c.t.Helper()
	var err error
	switch o := object.(type) {
	case *corev1.Node:
		_, err = c.core.CoreV1().Nodes().Update(c.t.Context(), o, metav1.UpdateOptions{})
	case *v1alpha1.NodeLocalStorage:
		_, err = c.ours.CsiV1alpha1().NodeLocalStorages().Update(c.t.Context(), o, metav1.UpdateOptions{})
	case *v1alpha1.NodeLocalStorageInitConfig:
		_, err = c.ours.CsiV1alpha1().NodeLocalStorageInitConfigs().Update(c.t.Context(), o, metav1.UpdateOptions{})
	}
	if err != nil {
		c.t.Fatal(err)
	}
}

func node(name string, labels map[string]string) *corev1.Node {
	return &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: labels, UID: types.UID("node-" + name)}}
}

func groups(names ...string) v1alpha1.StorageSpec {
	return v1alpha1.StorageSpec{ListConfig: v1alpha1.ListConfig{VGs: v1alpha1.Selection{Include: names}}}
}

// initConfig gives nodes in zone b the group "b", and all others "global".
func initConfig() *v1alpha1.NodeLocalStorageInitConfig {
	return &v1alpha1.NodeLocalStorageInitConfig{
		ObjectMeta: metav1.ObjectMeta{Name: "open-local", UID: "config", ResourceVersion: "1", Generation: 1},
		Spec: v1alpha1.NodeLocalStorageInitConfigSpec{
			GlobalConfig: groups("global"),
			NodesConfig: []v1alpha1.NodeConfig{{
				Selector:    &metav1.LabelSelector{MatchLabels: map[string]string{"zone": "b"}},
				StorageSpec: groups("b"),
			}},
		},
	}
}

func storage(name, group string) *v1alpha1.NodeLocalStorage {
	return &v1alpha1.NodeLocalStorage{
		ObjectMeta: metav1.ObjectMeta{Name: name, UID: types.UID("nls-" + name), Labels: map[string]string{"theirs": "kept"}},
		Spec:       v1alpha1.NodeLocalStorageSpec{NodeName: name, StorageSpec: groups(group)},
	}
}

func reported(nls *v1alpha1.NodeLocalStorage) *v1alpha1.NodeLocalStorage {
	nls.Status.NodeStorageInfo.Phase = v1alpha1.NodeStorageRunning
	return nls
}

var keep = controller.Options{Update: true}

func TestEveryNodeGetsItsStorage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, keep, initConfig(), node("n1", nil))
		c.wantWrites("create n1")
		c.wantGroup("n1", "global")
		if got := c.nls("n1").Spec.NodeName; got != "n1" {
			t.Errorf("spec.nodeName is %q", got)
		}

		if _, err := c.core.CoreV1().Nodes().Create(t.Context(), node("n2", map[string]string{"zone": "b"}), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.wantWrites("create n2")
		c.wantGroup("n2", "b")
	})
}

func TestNothingIsWrittenWhenNothingChanged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		nls := reported(storage("n1", "global"))
		nls.Spec.ResourceToBeInited.VGs = []v1alpha1.VGToBeInited{} // the same as none
		n := node("n1", nil)
		c := start(t, keep, initConfig(), n, nls)
		c.wantWrites()

		n.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady}}
		c.edit(n)
		nls.Status.NodeStorageInfo.Phase = v1alpha1.NodeStorageTerminated
		c.edit(nls)
		c.writes() // ours
		c.wantWrites()
		c.wantEvents()
	})
}

func TestALabelMovesANodeToAnotherEntry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, keep, initConfig(), node("n1", nil), storage("n1", "global"))
		c.edit(node("n1", map[string]string{"zone": "b"}))
		c.wantWrites("patch n1")
		c.wantGroup("n1", "b")
	})
}

func TestASpecChangedByHandIsSetRight(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, keep, initConfig(), node("n1", nil), storage("n1", "global"))
		changed := reported(storage("n1", "hand"))
		changed.Annotations = map[string]string{v1alpha1.AnnotationStorageReserved: `{"global":"1Gi"}`}
		changed.Spec.ResourceToBeInited.VGs = []v1alpha1.VGToBeInited{{Name: "hand", Devices: []string{"/dev/vdc"}}}
		c.edit(changed)
		settle()

		want := changed.DeepCopy()
		want.Spec = storage("n1", "global").Spec
		if diff := cmp.Diff(want, c.nls("n1")); diff != "" {
			t.Errorf("only the spec may change (-want +got):\n%s", diff)
		}
	})
}

func TestASpecChangedByHandStaysWhenOnlyCreating(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, controller.Options{Update: false}, initConfig(), node("n1", nil), node("n2", nil), storage("n1", "hand"))
		c.wantWrites("create n2")
		c.edit(node("n1", map[string]string{"zone": "b"}))
		c.wantWrites()
		c.wantGroup("n1", "hand")
	})
}

func TestAConfigThatChangesIsFollowed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, keep, initConfig(), node("n1", nil), node("n2", nil), storage("n1", "global"), storage("n2", "global"))
		cfg := initConfig()
		cfg.Spec.GlobalConfig = groups("new")
		cfg.ResourceVersion, cfg.Generation = "2", 2
		c.edit(cfg)
		settle()
		c.wantGroup("n1", "new")
		c.wantGroup("n2", "new")
	})
}

func TestStorageGoesWithItsNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, keep, initConfig(), node("n1", nil), node("n2", nil))
		c.wantWrites("create n1", "create n2")
		if err := c.core.CoreV1().Nodes().Delete(t.Context(), "n1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.wantWrites("delete n1")
	})
}

func TestADeletedStorageComesBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, keep, initConfig(), node("n1", nil), storage("n1", "global"))
		if err := c.ours.CsiV1alpha1().NodeLocalStorages().Delete(t.Context(), "n1", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.wantWrites("create n1", "delete n1")
	})
}

func TestLeftOverStorage(t *testing.T) {
	mine := storage("gone", "global")
	mine.Labels["app.kubernetes.io/managed-by"] = "open-local-controller"
	for name, test := range map[string]struct {
		nls   *v1alpha1.NodeLocalStorage
		api   error // the API server's answer about the node; nil is that it exists
		wrote []string
	}{
		"one that an agent reported on is deleted":                {nls: reported(storage("gone", "global")), api: notFound, wrote: []string{"delete gone"}},
		"one that a controller created is deleted":                {nls: mine, api: notFound, wrote: []string{"delete gone"}},
		"one that was prepared for a node to come stays":          {nls: storage("gone", "global"), api: notFound},
		"one whose node the API server still has stays":           {nls: mine},
		"one stays as long as the API server cannot say anything": {nls: mine, api: errors.New("unreachable")},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				cfg := initConfig()
				cfg.Name = "not yet"
				c := start(t, keep, cfg, test.nls.DeepCopy())
				c.core.PrependReactor("get", "nodes", func(clienttesting.Action) (bool, runtime.Object, error) {
					return true, node("gone", nil), test.api
				})
				cfg = initConfig()
				if _, err := c.ours.CsiV1alpha1().NodeLocalStorageInitConfigs().Create(t.Context(), cfg, metav1.CreateOptions{}); err != nil {
					t.Fatal(err)
				}
				c.wantWrites(append([]string{"create open-local"}, test.wrote...)...)
			})
		})
	}
}

var notFound = apierrors.NewNotFound(corev1.Resource("nodes"), "gone")

func TestWithoutAConfigNothingIsTouched(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := start(t, keep, initConfig(), node("n1", nil), node("n2", nil), reported(storage("n1", "global")), reported(storage("gone", "global")))
		c.wantWrites("create n2", "delete gone")
		if err := c.ours.CsiV1alpha1().NodeLocalStorageInitConfigs().Delete(t.Context(), "open-local", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		settle()
		c.edit(storage("n1", "hand"))
		c.writes() // ours
		if err := c.core.CoreV1().Nodes().Delete(t.Context(), "n2", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.wantWrites()
		c.wantGroup("n1", "hand")
	})
}

func TestMistakesAreToldOncePerGeneration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := initConfig()
		cfg.Spec.GlobalConfig = groups("[", "global")
		cfg.Spec.NodesConfig[0].Selector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: "x", Operator: "Like"}}
		c := start(t, keep, cfg, node("n1", map[string]string{"zone": "b"}))
		c.wantEvents("Warning BadExpression", "Warning BadSelector")
		if diff := cmp.Diff([]string{"[", "global"}, c.nls("n1").Spec.ListConfig.VGs.Include); diff != "" {
			t.Errorf("the rest of the config holds (-want +got):\n%s", diff)
		}

		cfg.Annotations, cfg.ResourceVersion = map[string]string{"touched": "yes"}, "2"
		c.edit(cfg)
		c.wantEvents()

		cfg.Spec.GlobalConfig = groups("global")
		cfg.ResourceVersion, cfg.Generation = "3", 2
		c.edit(cfg)
		c.wantEvents("Warning BadSelector")
	})
}

func TestARefusedWriteIsTriedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		cfg := initConfig()
		cfg.Name = "not yet"
		c := start(t, keep, cfg, node("n1", nil))
		var tries atomic.Int64
		c.ours.PrependReactor("create", "nodelocalstorages", func(clienttesting.Action) (bool, runtime.Object, error) {
			return tries.Add(1) <= 3, nil, errors.New("refused")
		})
		if _, err := c.ours.CsiV1alpha1().NodeLocalStorageInitConfigs().Create(t.Context(), initConfig(), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		settle()
		for tries.Load() <= 3 {
			settle()
		}
		c.wantGroup("n1", "global")
	})
}

// settle lets the bubble's time pass until everything that is due was done. No
// real time passes.
func settle() {
	<-time.After(time.Second)
	synctest.Wait()
}
