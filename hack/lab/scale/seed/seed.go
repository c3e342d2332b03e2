// Package seed writes objects into etcd before an API server reads it: a cluster of
// thousands of nodes and hundreds of thousands of volumes stands within a minute. It knows
// where and how the API server keeps what, and nothing of what the objects are for.
package seed

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net/http"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/client-go/kubernetes/scheme"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// batch is how many bytes are written at one time.
const batch = 4 << 20

// A Writer writes objects to the etcd at URL.
type Writer struct {
	URL string

	waiting []put
	size    int
}

type put struct {
	Key   string `json:"key"`
	Value string `json:"value"`
}

// kubernetesObjects are kept as the API server keeps its own kinds.
var kubernetesObjects = protobuf.NewSerializer(scheme.Scheme, scheme.Scheme)

// Add writes an object, now or with the next ones. It has its kind and its UID.
func (w *Writer) Add(ctx context.Context, object metav1.Object) error {
	key, value, err := stored(object)
	if err != nil {
		return fmt.Errorf("encoding %s: %w", object.GetName(), err)
	}
	w.waiting = append(w.waiting, put{base64.StdEncoding.EncodeToString([]byte(key)), base64.StdEncoding.EncodeToString(value)})
	w.size += len(value)
	if w.size < batch {
		return nil
	}
	return w.Flush(ctx)
}

// stored returns where and how the API server keeps the object.
func stored(object metav1.Object) (key string, value []byte, err error) {
	name := object.GetName()
	switch o := object.(type) {
	case *corev1.Node:
		return protobufAt("/registry/minions/"+name, o)
	case *corev1.PersistentVolume:
		return protobufAt("/registry/persistentvolumes/"+name, o)
	case *corev1.PersistentVolumeClaim:
		return protobufAt("/registry/persistentvolumeclaims/"+o.Namespace+"/"+name, o)
	case *storagev1.CSINode:
		return protobufAt("/registry/csinodes/"+name, o)
	case *v1alpha1.NodeLocalStorage: // of a kind that is defined later
		value, err = json.Marshal(o)
		return "/registry/" + v1alpha1.GroupName + "/nodelocalstorages/" + name, value, err
	}
	return "", nil, fmt.Errorf("nobody has said how a %T is kept", object)
}

func protobufAt(key string, object runtime.Object) (string, []byte, error) {
	var value bytes.Buffer
	err := kubernetesObjects.Encode(object, &value)
	return key, value.Bytes(), err
}

// Flush writes what waits.
func (w *Writer) Flush(ctx context.Context) error {
	if len(w.waiting) == 0 {
		return nil
	}
	operations := make([]map[string]put, len(w.waiting))
	for i, p := range w.waiting {
		operations[i] = map[string]put{"request_put": p}
	}
	w.waiting, w.size = w.waiting[:0], 0
	body, err := json.Marshal(map[string]any{"success": operations})
	if err != nil {
		return fmt.Errorf("encoding objects for etcd: %w", err)
	}
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, w.URL+"/v3/kv/txn", bytes.NewReader(body))
	if err != nil {
		return fmt.Errorf("writing objects to etcd: %w", err)
	}
	answer, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("writing objects to etcd: %w", err)
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(answer.Body)
	if err != nil || answer.StatusCode != http.StatusOK {
		return fmt.Errorf("writing objects to etcd: %s: %s %w", answer.Status, text, err)
	}
	return nil
}
