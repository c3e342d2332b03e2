package sweep_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes/fake"
	clienttesting "k8s.io/client-go/testing"
	"k8s.io/client-go/tools/record"
	clocktesting "k8s.io/utils/clock/testing"

	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/lvm"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/provision/provisiontest"
	"github.com/open-local/open-local/pkg/sweep"
	"github.com/open-local/open-local/pkg/volume"
)

var (
	web      = volume.Pod{Namespace: "default", Name: "web-0", UID: "5b0e9a0e-6f0e-4c39-9a59-0f9c8c4a7b11"}
	inlineID = volume.ForInline(web.UID, "scratch")
)

// busy are the devices that somebody uses.
type busy map[string]bool

func (b busy) Busy(path string) (bool, error) { return b[path], nil }

// floor is a node with an inline volume of the pod web, the API server, and the Sweeper.
type floor struct {
	*provisiontest.Node
	cluster *fake.Clientset
	events  *record.FakeRecorder
	clock   *clocktesting.FakeClock
	sweeper *sweep.Sweeper
}

func newFloor(t *testing.T, pods ...runtime.Object) *floor {
	t.Helper()
	f := &floor{
		Node:    provisiontest.New(t, map[string]capacity.Bytes{"pool": 64 * capacity.MiB}),
		cluster: fake.NewClientset(pods...), events: record.NewFakeRecorder(10), clock: clocktesting.NewFakeClock(time.Unix(0, 0)),
	}
	spec := provision.Spec{ID: inlineID, Kind: volume.LVM, Group: "pool", Size: 8 * capacity.MiB, Tags: []string{web.Tag()}}
	if _, err := f.Ensure(t.Context(), spec); err != nil {
		t.Fatal(err)
	}
	f.begin()
	return f
}

// begin starts the process anew.
func (f *floor) begin() {
	f.Restart()
	f.sweeper = &sweep.Sweeper{Volumes: f.Provisioner, Devices: busy{}, Pods: f.cluster.CoreV1(), Events: f.events, Clock: f.clock}
}

func pod(of volume.Pod, more ...func(*corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: of.Namespace, Name: of.Name, UID: types.UID(of.UID)}}
	for _, change := range more {
		change(p)
	}
	return p
}

func phase(phase corev1.PodPhase) func(*corev1.Pod) {
	return func(p *corev1.Pod) { p.Status.Phase = phase }
}

func TestOnlyVolumesOfPodsThatAreGoneAreRemoved(t *testing.T) {
	anew := web
	anew.UID = "another"
	for name, test := range map[string]struct {
		pods    []runtime.Object
		answer  error // of the API server, in place of the pod
		busy    bool
		removed string // why
		err     bool
	}{
		"of a pod that is there":       {pods: []runtime.Object{pod(web)}},
		"of a pod that runs":           {pods: []runtime.Object{pod(web, phase(corev1.PodRunning))}},
		"of a pod that is terminating": {pods: []runtime.Object{pod(web, func(p *corev1.Pod) { p.DeletionTimestamp = &metav1.Time{} })}},
		"of a static pod, whose mirror has another UID": {pods: []runtime.Object{pod(anew, func(p *corev1.Pod) {
			p.Annotations = map[string]string{"kubernetes.io/config.mirror": web.UID}
		})}},
		"of a pod that was deleted":                            {removed: "the pod was deleted"},
		"of a pod that was deleted and is still mounted":       {busy: true},
		"of a pod that was made anew":                          {pods: []runtime.Object{pod(anew)}, removed: "the pod was deleted and made anew"},
		"of a pod that was made anew and is still mounted":     {pods: []runtime.Object{pod(anew)}, busy: true},
		"of a pod that has ended well":                         {pods: []runtime.Object{pod(web, phase(corev1.PodSucceeded))}, removed: "the pod has ended"},
		"of a pod that has ended badly":                        {pods: []runtime.Object{pod(web, phase(corev1.PodFailed))}, removed: "the pod has ended"},
		"of a pod that the API server does not tell of":        {answer: apierrors.NewForbidden(schema.GroupResource{Resource: "pods"}, web.Name, errors.New("no")), err: true},
		"of a pod while the API server is away":                {answer: errors.New("connection refused"), err: true},
		"of a pod while the API server is overloaded":          {answer: apierrors.NewTooManyRequests("later", 1), err: true},
		"of a pod while something else answers in its place":   {answer: apierrors.NewGenericServerResponse(http.StatusNotFound, "get", schema.GroupResource{}, "", "404 page not found", 0, true), err: true},
		"of a pod, asked about as the API server was stopping": {answer: context.Canceled, err: true},
	} {
		t.Run(name, func(t *testing.T) {
			f := newFloor(t, test.pods...)
			if test.answer != nil {
				f.cluster.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) { return true, nil, test.answer })
			}
			f.sweeper.Devices = busy{lvm.DevicePath("pool", inlineID): test.busy}
			if err := f.sweeper.Sweep(t.Context()); (err != nil) != test.err {
				t.Errorf("got %v, want an error: %t", err, test.err)
			}
			wantVolumes, wantRuns, wantEvent := []string{"pool/" + inlineID}, 0, ""
			if test.removed != "" {
				wantVolumes, wantRuns = nil, 1
				wantEvent = "Normal InlineVolumeRemoved removed the inline volume " + inlineID + " from volume group pool: " + test.removed
			}
			if diff := cmp.Diff(wantVolumes, f.Volumes()); diff != "" {
				t.Errorf("volumes (-want +got):\n%s", diff)
			}
			if got := f.Counter.Total(); got != wantRuns {
				t.Errorf("%d processes, want %d", got, wantRuns)
			}
			select {
			case event := <-f.events.Events:
				if event != wantEvent {
					t.Errorf("event %q, want %q", event, wantEvent)
				}
			default:
				if wantEvent != "" {
					t.Error("no event")
				}
			}
		})
	}
}

func TestVolumesOfNobodyAreLeftAlone(t *testing.T) {
	f := newFloor(t, pod(web))
	first := volume.ForInline("0f6d4a43", "scratch") // as the first open-local made them
	for _, name := range []string{first, "local-5b0e9a0e-6f0e-4c39-9a59-0f9c8c4a7b11", "backup"} {
		if err := f.Host().CreateVolume(t.Context(), lvm.CreateVolume{Group: "pool", Name: name, Size: capacity.MiB}); err != nil {
			t.Fatal(err)
		}
	}
	f.begin()
	before := f.Volumes()
	if err := f.sweeper.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(before, f.Volumes()); diff != "" {
		t.Errorf("volumes (-before +after):\n%s", diff)
	}
	if got := len(f.cluster.Actions()); got != 1 {
		t.Errorf("%d questions to the API server, want one", got)
	}
}

func TestANodeWithoutInlineVolumesIsIdle(t *testing.T) {
	f := newFloor(t)
	for range 3 {
		if err := f.sweeper.Sweep(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if questions, processes := len(f.cluster.Actions()), f.Counter.Total(); questions != 1 || processes != 1 {
		t.Errorf("%d questions and %d processes, want one of each: the volume was removed the first time", questions, processes)
	}
}

// A crash may have left a volume that its pod will never have: the next process finds it.
func TestWhatACrashLeftIsSwept(t *testing.T) {
	made := provision.Spec{ID: volume.ForInline("late", "scratch"), Kind: volume.LVM, Group: "pool", Size: capacity.MiB, Tags: []string{volume.PodTag("default", "late", "late")}}
	points := provisiontest.Everywhere(t, func(t *testing.T, k *provisiontest.Killer) {
		f := newFloor(t, pod(web))
		f.Use(k)
		k.Aim()
		_, err := f.Ensure(t.Context(), made)
		if died := k.Struck() != ""; errors.Is(err, provisiontest.ErrKilled) != died {
			t.Errorf("died %q, and the call says %v", k.Struck(), err)
		}
		k.Revive()
		f.begin()
		if err := f.sweeper.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		if diff := cmp.Diff([]string{"pool/" + inlineID}, f.Volumes()); diff != "" {
			t.Errorf("after death %q: volumes (-want +got):\n%s", k.Struck(), diff)
		}
	})
	if points != 4 {
		t.Errorf("%d points to die at, want 4", points)
	}
}

func TestASweepMayDieAnywhere(t *testing.T) {
	points := provisiontest.Everywhere(t, func(t *testing.T, k *provisiontest.Killer) {
		f := newFloor(t)
		f.Use(k)
		asked := func(when string) error { return k.Pass(when + " the question to the API server") }
		f.cluster.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
			err := errors.Join(asked("before"), asked("after"))
			return err != nil, nil, err
		})
		k.Aim()
		err := f.sweeper.Sweep(t.Context())
		if died := k.Struck() != ""; errors.Is(err, provisiontest.ErrKilled) != died {
			t.Errorf("died %q, and the sweep says %v", k.Struck(), err)
		}
		k.Revive()
		f.begin()
		if err := f.sweeper.Sweep(t.Context()); err != nil {
			t.Error(err)
		}
		if left := f.Volumes(); len(left) > 0 {
			t.Errorf("after death %q volumes are left: %q", k.Struck(), left)
		}
	})
	if points != 5 {
		t.Errorf("%d points to die at, want 5", points)
	}
}

func TestTheSweeperSweepsAtOnceAndThenEveryTenMinutes(t *testing.T) {
	f := newFloor(t, pod(web))
	asked, answer := make(chan struct{}), make(chan error)
	f.cluster.PrependReactor("get", "pods", func(clienttesting.Action) (bool, runtime.Object, error) {
		asked <- struct{}{}
		err := <-answer
		return err != nil, nil, err
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { f.sweeper.Run(ctx); close(ended) }()
	<-asked
	answer <- errors.New("connection refused") // the network is not there yet
	f.clock.Step(sweep.Again)
	<-asked
	answer <- nil
	for range 2 {
		for range sweep.Every/sweep.Again - 1 {
			f.clock.Step(sweep.Again)
			select {
			case <-asked:
				t.Error("it asked too early")
			default:
			}
		}
		f.clock.Step(sweep.Again)
		<-asked
		answer <- nil
	}
	cancel()
	<-ended
}
