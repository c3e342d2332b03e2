package extender

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	corefake "k8s.io/client-go/kubernetes/fake"
	extenderv1 "k8s.io/kube-scheduler/extender/v1"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	storagefake "github.com/open-local/open-local/pkg/client/clientset/versioned/fake"
	"github.com/open-local/open-local/pkg/metrics"
)

// BenchmarkVerbs asks over HTTP and with JSON, as kube-scheduler does, about one pod on
// all nodes of a cluster.
func BenchmarkVerbs(b *testing.B) {
	for _, nodes := range []int{100, 1000, 5000, 10000} {
		for _, groups := range []int{1, 4} {
			for _, claims := range []int{1, 4} {
				url, p, names := benchCluster(b, nodes, groups, claims)
				body, err := json.Marshal(&extenderv1.ExtenderArgs{Pod: p, NodeNames: &names})
				if err != nil {
					b.Fatal(err)
				}
				for _, verb := range []string{"predicates", "priorities"} {
					b.Run(fmt.Sprintf("%s/nodes=%d/groups=%d/claims=%d", verb, nodes, groups, claims), func(b *testing.B) {
						b.ReportAllocs()
						newCaller(b, url+"/scheduler/predicates", body, nodes).call() // what is scored was held
						c := newCaller(b, url+"/scheduler/"+verb, body, nodes)
						for b.Loop() {
							c.call()
						}
						c.report()
					})
				}
			}
		}
	}
}

// BenchmarkRefusals asks for more than any node has.
func BenchmarkRefusals(b *testing.B) {
	url, p, names := benchCluster(b, 5000, 4, 4)
	p.Name, p.UID = "large", "uid-large"
	body, err := json.Marshal(&extenderv1.ExtenderArgs{Pod: p, NodeNames: &names})
	if err != nil {
		b.Fatal(err)
	}
	b.ReportAllocs()
	c := newCaller(b, url+"/scheduler/predicates", body, 5000)
	for b.Loop() {
		c.call()
	}
	c.report()
}

// A caller asks the same again and again, and needs little time itself.
type caller struct {
	b      *testing.B
	url    string
	body   []byte
	nodes  int // that every answer names
	answer bytes.Buffer
	took   []time.Duration
}

func newCaller(b *testing.B, url string, body []byte, nodes int) *caller {
	return &caller{b: b, url: url, body: body, nodes: nodes}
}

// call sends the body and reads the answer, and notes how long that took.
func (c *caller) call() {
	begun := time.Now()
	response, err := http.Post(c.url, "application/json", bytes.NewReader(c.body))
	if err != nil {
		c.b.Fatal(err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	c.answer.Reset()
	_, err = c.answer.ReadFrom(response.Body)
	c.took = append(c.took, time.Since(begun))
	if err != nil || response.StatusCode != http.StatusOK || bytes.Count(c.answer.Bytes(), []byte(`"node-`)) != c.nodes {
		c.b.Fatalf("answered %d %.200s: %v", response.StatusCode, c.answer.Bytes(), err)
	}
}

// report says how long a call took: half of them, nearly all, and the best, which is
// what a busy machine hides.
func (c *caller) report() {
	slices.Sort(c.took)
	for name, at := range map[string]int{"best-ns": 0, "p50-ns": len(c.took) / 2, "p99-ns": len(c.took) * 99 / 100} {
		c.b.ReportMetric(float64(c.took[at]), name)
	}
}

// benchCluster serves what filled returns.
func benchCluster(b *testing.B, nodes, groups, claims int) (url string, p *corev1.Pod, names []string) {
	b.Helper()
	s, p, names := filled(b, nodes, groups, claims)
	registry := metrics.NewRegistry("bench")
	if err := s.Register(registry); err != nil {
		b.Fatal(err)
	}
	server := httptest.NewServer(s.Handler(b.Context(), registry))
	b.Cleanup(server.Close)
	return server.URL, p, names
}

// filled is a Scheduler whose caches were filled by hand. The pods "p" and "large" are
// there with their claims; what is large fits nowhere.
func filled(t testing.TB, nodes, groups, claims int) (s *Scheduler, p *corev1.Pod, names []string) {
	t.Helper()
	w := &world{clock: clocktesting.NewFakeClock(metav1.Now().Time)}
	s, err := New(options(w), corefake.NewClientset(), storagefake.NewSimpleClientset())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.caches.classes.GetStore().Add(class("lvm")); err != nil {
		t.Fatal(err)
	}
	for i := range nodes {
		name := fmt.Sprintf("node-%05d.example.org", i)
		names = append(names, name)
		var vgs []v1alpha1.VolumeGroup
		for g := range groups {
			used := gib * capacity.Bytes(30+(i*7+g*13)%60) // no two nodes are alike for long
			vgs = append(vgs, vg(fmt.Sprint("open-local-pool-", g), 1000*gib, lv(fmt.Sprint("x", i, g), used)))
		}
		s.ledger.Report(name, reportOf(nls(name, vgs...)).says)
	}
	p = benchPod(s.caches, "p", claims, 10)
	benchPod(s.caches, "large", claims, 2000)
	s.ready.Store(true)
	return s, p, names
}

// benchPod adds a pod with its claims, and returns it as large as pods are.
func benchPod(in *caches, name string, claims int, gibs int64) *corev1.Pod {
	p := pod(name)
	for i := range claims {
		c := claim(fmt.Sprint("data-", name, i), 0, "lvm")
		c.Spec.Resources.Requests[corev1.ResourceStorage] = *resource.NewQuantity((gibs+int64(i))<<30, resource.BinarySI)
		in.claims.Put(in.keepClaim(c))
		p.Spec.Volumes = append(p.Spec.Volumes, pod(name, c.Name).Spec.Volumes...)
	}
	in.pods.Put(in.keepPod(p))
	for i := range 3 {
		c := corev1.Container{Name: fmt.Sprint("c", i), Image: "registry.example.org/some/image:v1.2.3", Command: []string{"/bin/app", "--serve"}}
		for e := range 10 {
			c.Env = append(c.Env, corev1.EnvVar{Name: fmt.Sprint("VARIABLE_", e), Value: "some value of a common length"})
		}
		p.Spec.Containers = append(p.Spec.Containers, c)
	}
	return p
}
