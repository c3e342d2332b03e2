package seed

import (
	"encoding/base64"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

func TestObjectsAreKeptWhereAndHowTheAPIServerLooks(t *testing.T) {
	kept := map[string][]byte{}
	etcd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var request struct {
			Success []struct {
				Put struct{ Key, Value []byte } `json:"request_put"`
			}
		}
		if err := json.NewDecoder(r.Body).Decode(&request); err != nil || r.URL.Path != "/v3/kv/txn" {
			t.Errorf("asked %s: %v", r.URL.Path, err)
		}
		for _, operation := range request.Success {
			kept[string(operation.Put.Key)] = operation.Put.Value
		}
	}))
	defer etcd.Close()
	w := &Writer{URL: etcd.URL}
	claim := &corev1.PersistentVolumeClaim{TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "PersistentVolumeClaim"}, ObjectMeta: metav1.ObjectMeta{Name: "c", Namespace: "ns"}}
	storage := &v1alpha1.NodeLocalStorage{TypeMeta: metav1.TypeMeta{APIVersion: "csi.aliyun.com/v1alpha1", Kind: "NodeLocalStorage"}, ObjectMeta: metav1.ObjectMeta{Name: "n"}}
	for _, object := range []metav1.Object{claim, storage} {
		if err := w.Add(t.Context(), object); err != nil {
			t.Fatal(err)
		}
	}
	if err := w.Flush(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, _, err := scheme.Codecs.UniversalDeserializer().Decode(kept["/registry/persistentvolumeclaims/ns/c"], nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(claim.Name, got.(metav1.Object).GetName()); diff != "" {
		t.Errorf("claim (-want +got):\n%s", diff)
	}
	if text := string(kept["/registry/csi.aliyun.com/nodelocalstorages/n"]); !strings.Contains(text, `"kind":"NodeLocalStorage"`) {
		t.Errorf("the report is kept as %s", text)
	}
	if err := w.Add(t.Context(), &corev1.Secret{}); err == nil {
		t.Error("an object of which nobody knows how it is kept was taken")
	}
}

func TestWhatEtcdRefusesIsAnError(t *testing.T) {
	etcd := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		http.Error(w, base64.StdEncoding.EncodeToString([]byte("no")), http.StatusInsufficientStorage)
	}))
	defer etcd.Close()
	w := &Writer{URL: etcd.URL, waiting: []put{{"a", "b"}}}
	if err := w.Flush(t.Context()); err == nil || !strings.Contains(err.Error(), "507") {
		t.Errorf("got %v", err)
	}
}
