//go:build e2e

package e2e

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/hack/lab/cluster"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
)

// labs are the clusters that cases run on, each brought up by the first case that
// takes it.
type labs struct {
	whole *testing.T // labs live as long as it does
	free  chan *slot
}

// A slot is the place of one lab.
type slot struct {
	dir   string
	suite *suite // nil before the first use, and when the lab did not come up
}

// labMemory is what the host should have for each lab, in bytes: two nodes may take 2 GiB
// each, and a control plane takes 1.
const labMemory = 6 << 30

// slowCall is what a system call takes where a processor is busy with one lab alone: the
// kernels of nodes are processes that make hundreds of thousands of calls for little. It is
// a tenth of this on most machines.
const slowCall = 600 * time.Nanosecond

// systemCall measures what one takes.
func systemCall() time.Duration {
	const times = 200_000
	fastest := time.Hour
	for range 3 { // somebody else may have the processor meanwhile
		began := time.Now()
		for range times {
			_, _, _ = unix.RawSyscall(unix.SYS_GETPPID, 0, 0, 0)
		}
		fastest = min(fastest, time.Since(began)/times)
	}
	return fastest
}

// howMany returns how many labs there are to be: E2E_LABS, or else one for each
// processor, if there is memory for them; or for two processors, where a second one would
// only make both slow.
func howMany() (int, error) {
	if said := os.Getenv("E2E_LABS"); said != "" {
		n, err := strconv.Atoi(said)
		if err != nil || n < 1 {
			return 0, fmt.Errorf("E2E_LABS=%q: want the number of labs, 1 or more", said)
		}
		return n, nil
	}
	var memory unix.Sysinfo_t
	if err := unix.Sysinfo(&memory); err != nil {
		return 0, fmt.Errorf("asking for the memory of this machine: %w", err)
	}
	processors := runtime.NumCPU()
	if systemCall() > slowCall {
		processors /= 2
	}
	return max(1, min(processors, int(memory.Totalram*uint64(memory.Unit)/labMemory))), nil
}

// TestMain lets as many cases run at once as there are labs.
func TestMain(m *testing.M) {
	flag.Parse()
	n, err := howMany()
	if err == nil {
		err = flag.Set("test.parallel", strconv.Itoa(n))
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	m.Run()
}

// newLabs prepares places for the clusters.
func newLabs(t *testing.T) *labs {
	t.Helper()
	n, err := howMany()
	if err != nil {
		t.Fatal(err)
	}
	l := &labs{whole: t, free: make(chan *slot, n)}
	for i := range n {
		l.free <- &slot{dir: filepath.Join("_output/e2e", fmt.Sprintf("lab%d", i+1))}
	}
	return l
}

// take waits for a cluster and has it until t and its cleaning up have ended.
func (l *labs) take(t *testing.T) *suite {
	t.Helper()
	s := <-l.free
	t.Cleanup(func() { l.free <- s })
	if s.suite == nil { // a lab that did not come up is brought up again by the next case
		s.suite = l.setUp(t, s.dir)
	}
	return s.suite
}

// setUp brings up a lab with two nodes, installs open-local as a user would and
// waits until every node has its volume groups. With E2E_KEEP=1 the lab stays up
// and is used again by the next run.
func (l *labs) setUp(t *testing.T, dir string) *suite {
	t.Helper()
	root, err := filepath.Abs("../../..")
	if err != nil {
		t.Fatal(err)
	}
	image := filepath.Join(root, "_output/image/open-local.tar")
	if _, err := os.Stat(image); err != nil {
		t.Fatalf("the image of open-local is needed: make image: %v", err)
	}
	lab, err := cluster.Up(t.Context(), cluster.Options{
		Dir: filepath.Join(root, dir), Nodes: 2, Disks: "4G,3G,2G", SCSIDisks: "2x128M",
		Images: []string{image}, Progress: os.Stderr,
	})
	if err != nil {
		t.Fatalf("bringing up the lab in %s: %v", dir, err)
	}
	if os.Getenv("E2E_KEEP") != "1" {
		l.whole.Cleanup(func() {
			if err := lab.Down(context.Background()); err != nil {
				l.whole.Errorf("taking down the lab in %s: %v", dir, err)
			}
		})
	}
	config, err := lab.RESTConfig()
	if err != nil {
		t.Fatal(err)
	}
	s := &suite{
		lab: lab, disks: lab, plane: lab, nodes: lab.Nodes(), kube: kubernetes.NewForConfigOrDie(config),
		local: versioned.NewForConfigOrDie(config), other: dynamic.NewForConfigOrDie(config),
		kubectl: func(ctx context.Context, args ...string) (string, error) {
			cmd := exec.CommandContext(ctx, lab.Program("kubectl"), append([]string{"--kubeconfig", lab.Kubeconfig()}, args...)...)
			said, err := cmd.CombinedOutput()
			return string(said), err
		},
		openLocal: program(l.whole, root, lab.Kubeconfig()),
		install: func(ctx context.Context, values ...string) (string, error) {
			args := []string{"upgrade", "--install", "open-local", "./helm", "--kubeconfig", lab.Kubeconfig(),
				"--namespace", installedIn, "--wait", "--timeout", "4m", "--set", "nlsc.create=false",
				// What is gone or without an owner is told within seconds, not minutes.
				"--set", "csiController.nodeGrace=1s", "--set", "controller.orphanAge=2s"}
			for _, value := range values {
				args = append(args, "--set", value)
			}
			helm := exec.CommandContext(ctx, lab.Program("helm"), args...)
			helm.Dir = root
			said, err := helm.CombinedOutput()
			return string(said), err
		},
	}
	if disks := lab.Disks(); !slices.Equal(disks, []string{firstDisk, secondDisk, spareDisk}) {
		t.Fatalf("the disks of a node are %v", disks)
	}
	s.begins(t)
	s.awaitGroups(t)
	return s
}

// begins installs the chart and tells every node its storage.
func (s *suite) begins(t *testing.T) {
	t.Helper()
	started := time.Now()
	if said, err := s.install(t.Context()); err != nil {
		s.tell(t, installedIn)
		t.Fatalf("installing the chart: %v\n%s", err, said)
	}
	config := &v1alpha1.NodeLocalStorageInitConfig{ObjectMeta: metav1.ObjectMeta{Name: configName}}
	config.Spec.GlobalConfig = groups()
	configs := s.local.CsiV1alpha1().NodeLocalStorageInitConfigs()
	if _, err := configs.Get(t.Context(), configName, metav1.GetOptions{}); err != nil {
		if _, err := configs.Create(t.Context(), config, metav1.CreateOptions{}); err != nil {
			t.Fatalf("creating the NodeLocalStorageInitConfig: %v", err)
		}
	}
	t.Logf("open-local is installed after %.0f s", time.Since(started).Seconds())
}

// awaitGroups waits until every node reports both groups as managed.
func (s *suite) awaitGroups(t *testing.T) {
	t.Helper()
	b := &bench{T: t, suite: s, ns: installedIn}
	b.soon(func(ctx context.Context) (string, error) {
		for _, node := range s.nodes {
			nls, err := s.local.CsiV1alpha1().NodeLocalStorages().Get(ctx, node, metav1.GetOptions{})
			if err != nil {
				return "", err
			}
			if have := nls.Status.FilteredStorageInfo.VolumeGroups; !slices.Equal(have, []string{"open-local-pool-0", "open-local-pool-1"}) {
				return fmt.Sprintf("node %s manages %q; its conditions: %+v", node, have, nls.Status.Conditions), nil
			}
		}
		return "", nil
	})
}

// tell prints what a person would look at first when a case has failed.
func (s *suite) tell(t *testing.T, ns string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	pods, err := s.kube.CoreV1().Pods(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Logf("listing the pods of %s: %v", ns, err)
		return
	}
	waits := map[string]bool{}
	for _, p := range pods.Items {
		t.Logf("pod %s: %s on %q: %s", p.Name, p.Status.Phase, p.Spec.NodeName, state(&p))
		waits[p.Name] = p.Status.Phase == corev1.PodPending
	}
	events, err := s.kube.CoreV1().Events(ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		t.Logf("listing the events of %s: %v", ns, err)
		return
	}
	for i, e := range events.Items {
		if i >= len(events.Items)-40 || waits[e.InvolvedObject.Name] {
			t.Logf("event of %s/%s at %s: %s: %s", e.InvolvedObject.Kind, e.InvolvedObject.Name, e.LastTimestamp.Format(time.TimeOnly), e.Reason, e.Message)
		}
	}
	for _, node := range s.nodes { // what hangs is among what has run for seconds and should not have
		said, err := s.lab.Exec(ctx, node, "sh", "-c", "date; ps -eo pid,ppid,stat,etimes,args | grep -E 'crun|lvm|mkfs|fsck|mount|blkid|cni' | cut -c1-200")
		t.Logf("%s runs (%v):\n%s", node, err, said)
	}
}

func state(p *corev1.Pod) string {
	var said []string
	for _, c := range p.Status.ContainerStatuses {
		switch {
		case c.State.Waiting != nil:
			said = append(said, c.Name+" waits: "+c.State.Waiting.Reason+" "+c.State.Waiting.Message)
		case c.State.Terminated != nil:
			said = append(said, c.Name+" ended: "+c.State.Terminated.Message)
		}
	}
	return strings.Join(said, "; ")
}
