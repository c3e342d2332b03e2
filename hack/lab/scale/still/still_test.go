package still

import (
	"context"
	"net/http/httptest"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/hack/lab/scale/hollow"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
)

// clients ask for a cluster of 7 nodes with 4 volumes each, of which two are of one pod.
func clients(t *testing.T, streams bool) (kubernetes.Interface, versioned.Interface) {
	t.Helper()
	cluster := Cluster{
		Fleet: hollow.NewFleet(hollow.Shape{Nodes: 7, Groups: 2, Standing: 4, Size: capacity.GiB, Room: capacity.GiB}), Nodes: 7, ClaimsPerPod: 2,
	}
	server := httptest.NewServer(cluster.Server(streams))
	t.Cleanup(server.Close)
	storage, err := versioned.NewForConfig(&rest.Config{Host: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	core, err := kubernetes.NewForConfig(&rest.Config{Host: server.URL, ContentConfig: rest.ContentConfig{ContentType: protobufType}})
	if err != nil {
		t.Fatal(err)
	}
	return core, storage
}

func TestListsComeInPages(t *testing.T) {
	core, storage := clients(t, false)
	var volumes []corev1.PersistentVolume
	pages := 0
	for page := (metav1.ListOptions{Limit: 8}); pages == 0 || page.Continue != ""; pages++ {
		list, err := core.CoreV1().PersistentVolumes().List(t.Context(), page)
		if err != nil {
			t.Fatal(err)
		}
		volumes, page.Continue = append(volumes, list.Items...), list.Continue
	}
	if len(volumes) != 28 || pages != 4 || volumes[27].Spec.CSI == nil || volumes[27].Spec.ClaimRef.Name == "" {
		t.Errorf("%d volumes in %d pages, the last %+v", len(volumes), pages, volumes[len(volumes)-1])
	}
	reports, err := storage.CsiV1alpha1().NodeLocalStorages().List(t.Context(), metav1.ListOptions{})
	if err != nil || len(reports.Items) != 7 || len(reports.Items[0].Status.NodeStorageInfo.VolumeGroups) != 2 {
		t.Errorf("the reports are %+v: %v", reports, err)
	}
	pods, err := core.CoreV1().Pods("").List(t.Context(), metav1.ListOptions{})
	if err != nil || len(pods.Items) != 14 || len(pods.Items[13].Spec.Volumes) != 2 {
		t.Errorf("the pods are %+v: %v", pods, err)
	}
	if _, err := core.CoreV1().Pods("").Watch(t.Context(), streamed); err == nil {
		t.Error("lists are streamed")
	}
}

var streamed = metav1.ListOptions{
	SendInitialEvents: ptr.To(true), AllowWatchBookmarks: true, ResourceVersionMatch: metav1.ResourceVersionMatchNotOlderThan,
}

func TestListsAreStreamed(t *testing.T) {
	core, storage := clients(t, true)
	for name, test := range map[string]struct {
		watch func(context.Context, metav1.ListOptions) (watch.Interface, error)
		count int
		is    func(runtime.Object) bool
	}{
		"in protobuf": {core.CoreV1().PersistentVolumeClaims("").Watch, 28, func(o runtime.Object) bool {
			c, is := o.(*corev1.PersistentVolumeClaim)
			return is && c.Spec.VolumeName != ""
		}},
		"in JSON": {storage.CsiV1alpha1().NodeLocalStorages().Watch, 7, func(o runtime.Object) bool { n, is := o.(*v1alpha1.NodeLocalStorage); return is && n.Name != "" }},
	} {
		t.Run(name, func(t *testing.T) {
			w, err := test.watch(t.Context(), streamed)
			if err != nil {
				t.Fatal(err)
			}
			defer w.Stop()
			for range test.count {
				if event := <-w.ResultChan(); event.Type != watch.Added || !test.is(event.Object) {
					t.Fatalf("got %+v", event)
				}
			}
			end := <-w.ResultChan()
			about, ok := end.Object.(metav1.Object)
			if end.Type != watch.Bookmark || !ok || about.GetAnnotations()[metav1.InitialEventsAnnotationKey] != "true" || about.GetResourceVersion() != version {
				t.Errorf("it ends with %+v", end)
			}
		})
	}
}
