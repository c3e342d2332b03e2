//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// A bench is one case at work: a namespace of its own, and verbs that fail the
// test with the reason a person would want to read.
type bench struct {
	*testing.T
	*suite
	ns   string
	undo []func(context.Context) // newest last
}

// afterwards has something done when the case has ended and its volumes are gone.
func (b *bench) afterwards(undo func(context.Context)) { b.undo = append(b.undo, undo) }

// patience bounds every wait of a case. A step that is not done by then is stuck.
const patience = 6 * time.Minute

// begin makes the case's namespace and notes what every node holds; when the
// case ends, everything it made is removed and the nodes must hold the same.
func (s *suite) begin(t *testing.T) *bench {
	t.Helper()
	before := s.holdings(t)
	b := &bench{T: t, suite: s}
	ns, err := s.kube.CoreV1().Namespaces().Create(t.Context(), &corev1.Namespace{
		ObjectMeta: metav1.ObjectMeta{GenerateName: "case-"},
	}, metav1.CreateOptions{})
	b.must(err, "creating a namespace")
	b.ns = ns.Name
	t.Cleanup(func() {
		if t.Failed() {
			s.tell(t, b.ns)
		}
		b.removeAll()
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		for _, undo := range slices.Backward(b.undo) {
			undo(ctx)
		}
		b.wantHoldings(before)
	})
	return b
}

// removeAll deletes the case's pods, then its claims, then the namespace, and
// waits for each: a volume still in use would hold everything up for a reason
// that has nothing to do with open-local.
func (b *bench) removeAll() {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	core, now := b.kube.CoreV1(), metav1.DeleteOptions{}
	b.must(core.Pods(b.ns).DeleteCollection(ctx, now, metav1.ListOptions{}), "deleting the pods of %s", b.ns)
	b.must(core.PersistentVolumeClaims(b.ns).DeleteCollection(ctx, now, metav1.ListOptions{}), "deleting the claims of %s", b.ns)
	b.removeSnapshots(ctx)
	b.must(core.Namespaces().Delete(ctx, b.ns, now), "deleting namespace %s", b.ns)
	b.eventually(ctx, func(ctx context.Context) (string, error) {
		volumes, err := core.PersistentVolumes().List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		for _, pv := range volumes.Items {
			if pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.Namespace == b.ns {
				return fmt.Sprintf("volume %s of %s is still there (%s)", pv.Name, pv.Spec.ClaimRef.Name, pv.Status.Phase), nil
			}
		}
		return "", nil
	})
}

// wantHoldings waits until the nodes hold again what they held before the case.
func (b *bench) wantHoldings(before holdings) {
	b.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	b.eventually(ctx, func(ctx context.Context) (string, error) {
		after, err := b.look(ctx)
		if err != nil {
			return "", err
		}
		if diff := cmp.Diff(before, after); diff != "" {
			return "the case left something behind (-before +after):\n" + diff, nil
		}
		return "", nil
	})
}

func (b *bench) must(err error, format string, args ...any) {
	b.Helper()
	if err != nil {
		b.Fatalf("%s: %v", fmt.Sprintf(format, args...), err)
	}
}

// eventually asks until complaint is empty, and fails with the last complaint
// or error when ctx ends first. Between two questions is twice the time that one took:
// what is asked keeps a node from what it is waited for.
func (b *bench) eventually(ctx context.Context, ask func(context.Context) (complaint string, err error)) {
	b.Helper()
	var last string
	for {
		began := time.Now()
		complaint, err := ask(ctx)
		switch {
		case err == nil && complaint == "":
			return
		case err == nil:
			last = complaint
		case ctx.Err() == nil:
			last = err.Error() // the API server or a node may be restarting
		}
		select {
		case <-ctx.Done():
			b.Fatalf("waited in vain: %s", last)
		case <-time.After(min(max(300*time.Millisecond, 2*time.Since(began)), 3*time.Second)):
		}
	}
}

func (b *bench) soon(ask func(context.Context) (string, error)) {
	b.Helper()
	ctx, cancel := context.WithTimeout(b.Context(), patience)
	defer cancel()
	b.eventually(ctx, ask)
}

// addClass creates a class under the case's name and removes it with the case.
func (b *bench) addClass(name string, parameters map[string]string, changes ...func(*storagev1.StorageClass)) string {
	b.Helper()
	c := class(b.ns+"-"+name, parameters)
	for _, change := range changes {
		change(c)
	}
	_, err := b.kube.StorageV1().StorageClasses().Create(b.Context(), c, metav1.CreateOptions{})
	b.must(err, "creating class %s", c.Name)
	b.Cleanup(func() {
		err := b.kube.StorageV1().StorageClasses().Delete(context.Background(), c.Name, metav1.DeleteOptions{})
		b.must(err, "deleting class %s", c.Name)
	})
	return c.Name
}

func (b *bench) addClaims(claims ...*corev1.PersistentVolumeClaim) {
	b.Helper()
	for _, c := range claims {
		_, err := b.kube.CoreV1().PersistentVolumeClaims(b.ns).Create(b.Context(), c, metav1.CreateOptions{})
		b.must(err, "creating claim %s", c.Name)
	}
}

func (b *bench) addPods(pods ...*corev1.Pod) {
	b.Helper()
	for _, p := range pods {
		_, err := b.kube.CoreV1().Pods(b.ns).Create(b.Context(), p, metav1.CreateOptions{})
		b.must(err, "creating pod %s", p.Name)
	}
}

// removePod deletes a pod and waits until it is gone.
func (b *bench) removePod(name string) {
	b.Helper()
	b.must(b.kube.CoreV1().Pods(b.ns).Delete(b.Context(), name, metav1.DeleteOptions{}), "deleting pod %s", name)
	b.soon(func(ctx context.Context) (string, error) {
		pods, err := b.kube.CoreV1().Pods(b.ns).List(ctx, metav1.ListOptions{FieldSelector: "metadata.name=" + name})
		if err != nil || len(pods.Items) == 0 {
			return "", err
		}
		return "pod " + name + " is still there", nil
	})
}

func (b *bench) removeClaim(name string) {
	b.Helper()
	err := b.kube.CoreV1().PersistentVolumeClaims(b.ns).Delete(b.Context(), name, metav1.DeleteOptions{})
	b.must(err, "deleting claim %s", name)
}

// wantRunning waits until all pods named have their containers ready.
func (b *bench) wantRunning(names ...string) {
	b.Helper()
	b.wantPods(names, func(p *corev1.Pod) bool {
		return slices.ContainsFunc(p.Status.Conditions, func(c corev1.PodCondition) bool {
			return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue
		})
	})
}

// wantDone waits until the pods named have succeeded; one that failed fails the
// case with what it printed.
func (b *bench) wantDone(names ...string) {
	b.Helper()
	b.wantPods(names, func(p *corev1.Pod) bool {
		if p.Status.Phase == corev1.PodFailed {
			b.Fatalf("pod %s failed: %s", p.Name, ended(p))
		}
		return p.Status.Phase == corev1.PodSucceeded
	})
}

func ended(p *corev1.Pod) string {
	var said []string
	for _, c := range p.Status.ContainerStatuses {
		if c.State.Terminated != nil {
			said = append(said, fmt.Sprintf("exit %d: %s", c.State.Terminated.ExitCode, c.State.Terminated.Message))
		}
	}
	return strings.Join(append(said, p.Status.Message), "; ")
}

func (b *bench) wantPods(names []string, ready func(*corev1.Pod) bool) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		pods, err := b.kube.CoreV1().Pods(b.ns).List(ctx, metav1.ListOptions{})
		if err != nil {
			return "", err
		}
		var waiting []string
		for _, name := range names {
			at := slices.IndexFunc(pods.Items, func(p corev1.Pod) bool { return p.Name == name })
			if at < 0 || !ready(&pods.Items[at]) {
				waiting = append(waiting, name)
			}
		}
		if len(waiting) > 0 {
			return "pods not there yet: " + strings.Join(waiting, ", "), nil
		}
		return "", nil
	})
}

// wantEvent waits for an event of the object whose message contains every word.
func (b *bench) wantEvent(object string, words ...string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		messages, err := b.events(ctx, object)
		if err != nil {
			return "", err
		}
		for _, message := range messages {
			if !slices.ContainsFunc(words, func(word string) bool { return !strings.Contains(message, word) }) {
				return "", nil
			}
		}
		return fmt.Sprintf("no event of %s says %q; they say:\n%s", object, words, strings.Join(messages, "\n")), nil
	})
}

func (b *bench) events(ctx context.Context, object string) ([]string, error) {
	events, err := b.kube.CoreV1().Events(b.ns).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + object})
	if err != nil {
		return nil, err
	}
	var messages []string
	for _, e := range events.Items {
		messages = append(messages, e.Reason+": "+e.Message)
	}
	return messages, nil
}

// pending reports the pods of the case that have no node.
func (b *bench) pending(ctx context.Context) ([]string, error) {
	pods, err := b.kube.CoreV1().Pods(b.ns).List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, err
	}
	var names []string
	for _, p := range pods.Items {
		if p.Spec.NodeName == "" {
			names = append(names, p.Name)
		}
	}
	return names, nil
}

// wantPending waits until exactly so many pods of the case have no node, and returns
// which of those named have one and which wait.
func (b *bench) wantPending(count int, names []string) (placed, waiting []string) {
	b.Helper()
	b.soon(func(ctx context.Context) (string, error) {
		var err error
		if waiting, err = b.pending(ctx); err == nil && len(waiting) != count {
			return fmt.Sprintf("%d pods have no node (%v), want exactly %d", len(waiting), waiting, count), nil
		}
		return "", err
	})
	placed = slices.DeleteFunc(slices.Clone(names), func(name string) bool { return slices.Contains(waiting, name) })
	return placed, waiting
}

// nodeOf returns the node that a pod was given.
func (b *bench) nodeOf(name string) string {
	b.Helper()
	p, err := b.kube.CoreV1().Pods(b.ns).Get(b.Context(), name, metav1.GetOptions{})
	b.must(err, "reading pod %s", name)
	return p.Spec.NodeName
}

// volumeOf returns the volume that a claim is bound to.
func (b *bench) volumeOf(name string) *corev1.PersistentVolume {
	b.Helper()
	c, err := b.kube.CoreV1().PersistentVolumeClaims(b.ns).Get(b.Context(), name, metav1.GetOptions{})
	b.must(err, "reading claim %s", name)
	pv, err := b.kube.CoreV1().PersistentVolumes().Get(b.Context(), c.Spec.VolumeName, metav1.GetOptions{})
	b.must(err, "reading the volume of claim %s", name)
	return pv
}
