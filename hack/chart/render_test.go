package chart

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"helm.sh/helm/v3/pkg/chart/loader"
	"helm.sh/helm/v3/pkg/chartutil"
	"helm.sh/helm/v3/pkg/engine"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	utilyaml "k8s.io/apimachinery/pkg/util/yaml"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/dynamic/fake"
	clientscheme "k8s.io/client-go/kubernetes/scheme"
	"sigs.k8s.io/yaml"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

const chartDir = "../../helm"

// values are what a user writes in a file or after --set.
type values = map[string]any

// A cluster is what a chart sees of the one it is installed in.
type cluster struct {
	namespace string           // of the release; kube-system when empty
	version   string           // of Kubernetes; one of no vendor when empty
	kinds     []string         // API versions and kinds beside those of Kubernetes
	objects   []runtime.Object // what lookup finds
}

// render returns the chart's output by file.
func (c cluster) render(vals values) (map[string]string, error) {
	chrt, err := loader.Load(chartDir)
	if err != nil {
		return nil, fmt.Errorf("loading the chart: %w", err)
	}
	caps := chartutil.DefaultCapabilities.Copy()
	if c.version == "" {
		c.version = "v1.36.3"
	}
	caps.KubeVersion = chartutil.KubeVersion{Version: c.version}
	caps.APIVersions = append(caps.APIVersions, c.kinds...)
	if c.namespace == "" {
		c.namespace = "kube-system"
	}
	release := chartutil.ReleaseOptions{Name: "open-local", Namespace: c.namespace, Revision: 1, IsInstall: true}
	full, err := chartutil.ToRenderValues(chrt, vals, release, caps)
	if err != nil {
		return nil, fmt.Errorf("checking the values: %w", err)
	}
	return engine.RenderWithClientProvider(chrt, full, c)
}

// GetClientFor answers lookup.
func (c cluster) GetClientFor(apiVersion, kind string) (dynamic.NamespaceableResourceInterface, bool, error) {
	if apiVersion != "v1" || kind != "Secret" {
		return nil, false, fmt.Errorf("looking up a %s %s: only Secrets are known to be looked up", apiVersion, kind)
	}
	secrets := schema.GroupVersionResource{Version: "v1", Resource: "secrets"}
	return fake.NewSimpleDynamicClient(clientscheme.Scheme, c.objects...).Resource(secrets), true, nil
}

// install renders the chart and reads every object it makes.
func (c cluster) install(t *testing.T, vals values) objects {
	t.Helper()
	files, err := c.render(vals)
	if err != nil {
		t.Fatalf("rendering the chart: %v", err)
	}
	var all objects
	for _, name := range slices.Sorted(maps.Keys(files)) {
		if filepath.Ext(name) != ".yaml" {
			continue
		}
		found, err := decode([]byte(files[name]))
		if err != nil {
			t.Errorf("%s: %v", name, err)
		}
		all = append(all, found...)
	}
	return all
}

// install renders the chart for an empty cluster.
func install(t *testing.T, vals values) objects {
	t.Helper()
	return cluster{}.install(t, vals)
}

// object is what every kind is.
type object interface {
	runtime.Object
	metav1.Object
}

type objects []object

// get returns the only object of a type with that name.
func get[T object](t *testing.T, all objects, name string) T {
	t.Helper()
	var found []T
	for _, o := range all {
		if typed, ok := o.(T); ok && o.GetName() == name {
			found = append(found, typed)
		}
	}
	if len(found) != 1 {
		t.Fatalf("there are %d objects of type %T named %q, want 1", len(found), *new(T), name)
	}
	return found[0]
}

// names returns the names of the objects of a type, sorted.
func names[T object](all objects) []string {
	found := []string{}
	for _, o := range all {
		if _, ok := o.(T); ok {
			found = append(found, o.GetName())
		}
	}
	slices.Sort(found)
	return found
}

// foreign are the groups whose types are not at hand; their objects are read as
// they are.
var foreign = []string{"cert-manager.io", "snapshot.storage.k8s.io"}

// decode reads the documents of a file. A field that its type does not have is
// an error.
func decode(file []byte) (objects, error) {
	scheme := runtime.NewScheme()
	if err := errors.Join(clientscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, err
	}
	decoder := serializer.NewCodecFactory(scheme, serializer.EnableStrict).UniversalDeserializer()
	reader := utilyaml.NewDocumentDecoder(io.NopCloser(bytes.NewReader(file)))
	defer reader.Close() //nolint:errcheck // it reads from memory

	var all objects
	for {
		document := make([]byte, len(file)+1)
		n, err := reader.Read(document)
		if errors.Is(err, io.EOF) {
			return all, nil
		}
		if err != nil {
			return all, err
		}
		one, err := decodeOne(decoder, document[:n])
		if err != nil {
			return all, fmt.Errorf("%w in\n%s", err, document[:n])
		}
		if one != nil {
			all = append(all, one)
		}
	}
}

func decodeOne(decoder runtime.Decoder, document []byte) (object, error) {
	var content map[string]any
	if err := yaml.UnmarshalStrict(document, &content); err != nil || len(content) == 0 {
		return nil, err
	}
	plain := &unstructured.Unstructured{Object: content}
	if slices.Contains(foreign, plain.GroupVersionKind().Group) {
		return plain, nil
	}
	decoded, _, err := decoder.Decode(document, nil, nil)
	if err != nil {
		return nil, err
	}
	return decoded.(object), nil
}

func decodeFile(t *testing.T, name string) objects {
	t.Helper()
	content, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	all, err := decode(content)
	if err != nil {
		t.Fatal(err)
	}
	return all
}
