package tracking

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

const (
	gib       = capacity.GiB
	namespace = "kube-system"
)

// cluster is nodes with groups, and the API server with what is published about them.
type cluster struct {
	t      *testing.T
	client *fake.Clientset
	p      *Publisher
	reg    *prometheus.Registry

	mu   sync.Mutex // guards what follows
	left map[string]map[string]capacity.Bytes
	down map[string]bool
}

func (c *cluster) Names() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	var names []string
	for name := range c.left {
		names = append(names, name)
	}
	return names
}

func (c *cluster) Capacity(name string) (capacity.Node, bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	groups, known := c.left[name]
	node := capacity.Node{Name: name}
	for group, left := range groups {
		node.Groups = append(node.Groups, capacity.Group{Name: group, Size: 100 * gib, Free: left, Extent: capacity.DefaultExtent})
	}
	return node, known && !c.down[name]
}

// set gives a group of a node so much room.
func (c *cluster) set(node, group string, left capacity.Bytes) {
	c.mu.Lock()
	if c.left[node] == nil {
		c.left[node] = map[string]capacity.Bytes{}
	}
	c.left[node][group] = left
	c.mu.Unlock()
	c.p.Changed(node)
}

func lvmClass(name string, more map[string]string) *storagev1.StorageClass {
	parameters := map[string]string{"volumeType": "LVM"}
	maps.Copy(parameters, more)
	return &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: volume.DefaultDriver, Parameters: parameters,
		VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer),
	}
}

// leftOver is what somebody else published for our driver.
func leftOver(name, class, node, size string, labels map[string]string) *storagev1.CSIStorageCapacity {
	return &storagev1.CSIStorageCapacity{
		ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace, Labels: labels}, StorageClassName: class,
		NodeTopology: &metav1.LabelSelector{MatchLabels: map[string]string{corev1.LabelHostname: node}}, Capacity: ptr.To(resource.MustParse(size)),
	}
}

// publishing runs a Publisher in a cluster where node a has 10 GiB and 30 GiB in two groups,
// and b has nothing left.
func publishing(t *testing.T, objects ...runtime.Object) *cluster {
	t.Helper()
	c := &cluster{t: t, client: fake.NewClientset(objects...), reg: prometheus.NewRegistry(), down: map[string]bool{}, left: map[string]map[string]capacity.Bytes{
		"a": {"fast": 10 * gib, "slow": 30 * gib}, "b": {"slow": 0},
	}}
	c.p = New(Options{
		Client: c.client, Nodes: c, Driver: volume.DefaultDriver, Namespace: namespace, Clock: clock.RealClock{}, Registry: c.reg,
		Owner: &metav1.OwnerReference{APIVersion: "apps/v1", Kind: "Deployment", Name: "open-local-csi-controller", UID: "1234"},
	})
	go c.p.Run(t.Context())
	synctest.Wait()
	return c
}

// published are all objects, in words.
func (c *cluster) published() []string {
	c.t.Helper()
	synctest.Wait()
	list, err := c.client.StorageV1().CSIStorageCapacities(namespace).List(c.t.Context(), metav1.ListOptions{})
	if err != nil {
		c.t.Fatal(err)
	}
	var all []string
	for i := range list.Items {
		o := objectOf(&list.Items[i])
		all = append(all, fmt.Sprintf("%s on %s: %d GiB, one %d GiB", o.class, o.node, o.room/int64(gib), o.largest/int64(gib)))
	}
	slices.Sort(all)
	return all
}

func (c *cluster) want(when string, objects ...string) {
	c.t.Helper()
	if diff := cmp.Diff(objects, c.published()); diff != "" {
		c.t.Errorf("%s (-want +got):\n%s", when, diff)
	}
}

// writes counts the requests that change objects.
func (c *cluster) writes() int {
	synctest.Wait()
	count := 0
	for _, action := range c.client.Actions() {
		if slices.Contains([]string{"create", "patch", "update", "delete"}, action.GetVerb()) {
			count++
		}
	}
	return count
}

func TestWhatIsPublished(t *testing.T) {
	immediate := lvmClass("immediate", nil)
	immediate.VolumeBindingMode = ptr.To(storagev1.VolumeBindingImmediate)
	unsaid := lvmClass("unsaid", nil) // means Immediate
	unsaid.VolumeBindingMode = nil
	other := lvmClass("other", nil)
	other.Provisioner = "other.csi.example.com"
	for name, test := range map[string]struct {
		class *storagev1.StorageClass
		want  []string
	}{
		"what all groups have, and the largest": {lvmClass("lvm", nil), []string{"lvm on a: 40 GiB, one 30 GiB"}},
		"what the group of the class has":       {lvmClass("fast", map[string]string{"vgName": "fast"}), []string{"fast on a: 10 GiB, one 10 GiB"}},
		"nothing where no group would do":       {lvmClass("none", map[string]string{"vgName": "none"}), nil},
		"nothing of a class that binds at once": {immediate, nil},
		"nothing of one that says nothing":      {unsaid, nil},
		"nothing of another driver's class":     {other, nil},
		"nothing of a class with a mistake":     {lvmClass("wrong", map[string]string{"iosp": "5"}), nil},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				publishing(t, test.class).want("in the beginning", test.want...)
			})
		})
	}
}

func TestAnObjectSaysWhoseItIs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := publishing(t, lvmClass("lvm", nil))
		list, err := c.client.StorageV1().CSIStorageCapacities(namespace).List(t.Context(), metav1.ListOptions{})
		if err != nil || len(list.Items) != 1 {
			t.Fatalf("%v, %v", list, err)
		}
		got := list.Items[0]
		want := storagev1.CSIStorageCapacity{
			TypeMeta: got.TypeMeta,
			ObjectMeta: metav1.ObjectMeta{
				Name: got.Name, Namespace: namespace, ManagedFields: got.ManagedFields, ResourceVersion: got.ResourceVersion,
				Labels:          map[string]string{"csi.storage.k8s.io/drivername": volume.DefaultDriver, "csi.storage.k8s.io/managed-by": "open-local"},
				OwnerReferences: []metav1.OwnerReference{{APIVersion: "apps/v1", Kind: "Deployment", Name: "open-local-csi-controller", UID: "1234"}},
			},
			StorageClassName: "lvm", NodeTopology: &metav1.LabelSelector{MatchLabels: map[string]string{"kubernetes.io/hostname": "a"}},
			Capacity: ptr.To(resource.MustParse("40Gi")), MaximumVolumeSize: ptr.To(resource.MustParse("30Gi")),
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("object (-want +got):\n%s", diff)
		}
		if !strings.HasPrefix(got.Name, "open-local-") {
			t.Errorf("its name is %s", got.Name)
		}
	})
}

func TestObjectsFollowWhatChanges(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := publishing(t, lvmClass("lvm", nil))
		full, writes := "lvm on a: 40 GiB, one 30 GiB", 0
		step := func(when string, cost int, objects ...string) {
			t.Helper()
			c.want(when, objects...)
			if writes += cost; c.writes() != writes {
				t.Errorf("%s: %d writes, want %d", when, c.writes(), writes)
				writes = c.writes()
			}
		}
		step("in the beginning", 1, full)
		c.p.Changed("a")
		c.p.Changed("b")
		step("nothing changed", 0, full)
		c.set("a", "slow", 5*gib)
		step("a volume was made", 1, "lvm on a: 15 GiB, one 10 GiB")
		c.set("b", "slow", 7*gib)
		step("a node that was full has room", 1, "lvm on a: 15 GiB, one 10 GiB", "lvm on b: 7 GiB, one 7 GiB")
		c.set("b", "slow", 0)
		step("it is full again", 1, "lvm on a: 15 GiB, one 10 GiB")
		c.mu.Lock()
		c.down["a"] = true
		c.mu.Unlock()
		c.p.Changed("a")
		step("a node cannot be reached", 1)
		c.mu.Lock()
		c.down["a"] = false
		c.mu.Unlock()
		c.p.Changed("a")
		step("it is back", 1, "lvm on a: 15 GiB, one 10 GiB")
		if _, err := c.client.StorageV1().StorageClasses().Create(t.Context(), lvmClass("fast", map[string]string{"vgName": "fast"}), metav1.CreateOptions{}); err != nil {
			t.Fatal(err)
		}
		writes++ // this one
		step("a class more", 1, "fast on a: 10 GiB, one 10 GiB", "lvm on a: 15 GiB, one 10 GiB")
		if err := c.client.StorageV1().StorageClasses().Delete(t.Context(), "lvm", metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		writes++
		step("a class less", 1, "fast on a: 10 GiB, one 10 GiB")
	})
}

func TestNobodyElseKeepsObjectsOfOurs(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ours := map[string]string{labelDriver: volume.DefaultDriver, labelManagedBy: "external-provisioner"}
		c := publishing(t, lvmClass("lvm", nil),
			leftOver("csisc-1", "lvm", "a", "99Gi", ours), leftOver("csisc-2", "gone", "gone", "99Gi", ours),
			leftOver("wakes", "other", "x", "1Gi", nil), leftOver("theirs", "other", "y", "1Gi", map[string]string{labelDriver: "other.csi.example.com"}))
		const full, others, theirs = "lvm on a: 40 GiB, one 30 GiB", "other on x: 1 GiB, one 0 GiB", "other on y: 1 GiB, one 0 GiB"
		c.want("what csi-provisioner left goes, and nothing else", full, others, theirs)
		name := (&object{node: "a", class: "lvm"}).name(volume.DefaultDriver)
		objects := c.client.StorageV1().CSIStorageCapacities(namespace)
		if err := objects.Delete(t.Context(), name, metav1.DeleteOptions{}); err != nil {
			t.Fatal(err)
		}
		c.want("what somebody removes is made again", full, others, theirs)
		wrong, err := objects.Get(t.Context(), name, metav1.GetOptions{})
		if err != nil {
			t.Fatal(err)
		}
		wrong.Capacity = ptr.To(resource.MustParse("1Ti"))
		if _, err := objects.Update(t.Context(), wrong, metav1.UpdateOptions{}); err != nil {
			t.Fatal(err)
		}
		c.want("what somebody changes is put right", full, others, theirs)
	})
}

func TestWhatFailsIsTriedAgain(t *testing.T) {
	for _, verb := range []string{"create", "patch", "delete"} {
		t.Run(verb, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				c := publishing(t)
				c.set("b", "slow", gib)
				failures := 3
				fails := func(clienttesting.Action) (bool, runtime.Object, error) {
					if failures--; failures >= 0 {
						return true, nil, errors.New("the API server is away")
					}
					return false, nil, nil
				}
				classes := c.client.StorageV1().StorageClasses()
				create := func() {
					if _, err := classes.Create(t.Context(), lvmClass("lvm", nil), metav1.CreateOptions{}); err != nil {
						t.Fatal(err)
					}
				}
				var want []string
				switch verb {
				case "create":
					c.client.PrependReactor(verb, "csistoragecapacities", fails)
					create()
					want = []string{"lvm on a: 40 GiB, one 30 GiB", "lvm on b: 1 GiB, one 1 GiB"}
				case "patch":
					create()
					synctest.Wait()
					c.client.PrependReactor(verb, "csistoragecapacities", fails)
					c.set("b", "slow", 2*gib)
					want = []string{"lvm on a: 40 GiB, one 30 GiB", "lvm on b: 2 GiB, one 2 GiB"}
				case "delete":
					create()
					synctest.Wait()
					c.client.PrependReactor(verb, "csistoragecapacities", fails)
					c.set("b", "slow", 0)
					want = []string{"lvm on a: 40 GiB, one 30 GiB"}
				}
				<-time.After(10 * time.Second) // of the bubble's time: the pauses between tries
				c.want("after some tries", want...)
				if failures >= 0 {
					t.Errorf("%d failures were not met", failures)
				}
			})
		})
	}
}

func TestWhatIsPublishedIsMeasured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := publishing(t, lvmClass("lvm", nil))
		c.client.PrependReactor("patch", "csistoragecapacities", func(clienttesting.Action) (bool, runtime.Object, error) {
			<-time.After(300 * time.Millisecond) // of the bubble's time
			return false, nil, nil
		})
		c.set("a", "slow", gib)
		<-time.After(time.Second)
		synctest.Wait()
		const want = `
# HELP open_local_capacities CSIStorageCapacity objects that are published.
# TYPE open_local_capacities gauge
open_local_capacities 1
# HELP open_local_capacities_waiting Nodes whose capacity has changed and was not looked at yet.
# TYPE open_local_capacities_waiting gauge
open_local_capacities_waiting 0
# HELP open_local_capacity_writes_total Writes of CSIStorageCapacity objects, by what was done and how it ended.
# TYPE open_local_capacity_writes_total counter
open_local_capacity_writes_total{doing="changing",outcome="ok"} 1
open_local_capacity_writes_total{doing="creating",outcome="ok"} 1
`
		if err := testutil.GatherAndCompare(c.reg, strings.NewReader(want), "open_local_capacities", "open_local_capacities_waiting", "open_local_capacity_writes_total"); err != nil {
			t.Error(err)
		}
		families, err := c.reg.Gather()
		if err != nil {
			t.Fatal(err)
		}
		for _, family := range families {
			if family.GetName() == "open_local_capacity_lag_seconds" {
				if h := family.GetMetric()[0].GetHistogram(); h.GetSampleCount() != 1 || h.GetSampleSum() < 0.3 || h.GetSampleSum() > 0.4 {
					t.Errorf("%d lags, together %v s", h.GetSampleCount(), h.GetSampleSum())
				}
				return
			}
		}
		t.Error("the lag is not measured")
	})
}

// TestWhatIsWrittenDoesNotGrowWithTheCluster changes one of many nodes many times.
func TestWhatIsWrittenDoesNotGrowWithTheCluster(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := publishing(t, lvmClass("lvm", nil), lvmClass("fast", map[string]string{"vgName": "fast"}))
		for i := range 200 {
			c.set(fmt.Sprint("node-", i), "slow", gib)
		}
		before := c.writes()
		for i := range 10 {
			c.set("node-7", "slow", gib*capacity.Bytes(i+2))
			synctest.Wait()
		}
		if got := c.writes() - before; got != 10 {
			t.Errorf("ten changes of a node took %d writes", got)
		}
	})
}

func TestItEndsWhenItIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		c := publishing(t, lvmClass("lvm", nil))
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan struct{})
		other := New(Options{Client: c.client, Nodes: c, Driver: "another", Namespace: namespace, Clock: clock.RealClock{}, Registry: prometheus.NewRegistry()})
		go func() { other.Run(ctx); close(ended) }()
		synctest.Wait()
		cancel()
		<-ended
	})
}
