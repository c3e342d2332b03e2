package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/util/wait"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/yaml"

	"github.com/open-local/open-local/hack/lab/build"
	"github.com/open-local/open-local/hack/lab/scale/plane"
	"github.com/open-local/open-local/pkg/volume"
)

// namespace is where pods and claims are.
const namespace = "default"

var definitions = schema.GroupVersionResource{Group: "apiextensions.k8s.io", Version: "v1", Resource: "customresourcedefinitions"}

// install makes what the chart makes, without its accounts, and waits until the reports of
// all nodes can be read.
func (r *round) install(ctx context.Context) error {
	if err := r.define(ctx); err != nil {
		return err
	}
	driver := &storagev1.CSIDriver{ObjectMeta: metav1.ObjectMeta{Name: volume.DefaultDriver}}
	driver.Spec = storagev1.CSIDriverSpec{AttachRequired: ptr.To(false), PodInfoOnMount: ptr.To(true), StorageCapacity: ptr.To(heeds(r.mode))}
	if _, err := r.core.StorageV1().CSIDrivers().Create(ctx, driver, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating the CSIDriver: %w", err)
	}
	for i, name := range r.classNames() {
		class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: name}, Provisioner: volume.DefaultDriver}
		class.VolumeBindingMode = ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
		class.Parameters = map[string]string{"volumeType": "LVM", "csi.storage.k8s.io/fstype": "ext4"}
		if i > 0 {
			class.Parameters["iops"] = fmt.Sprint(1000 * i)
		}
		if _, err := r.core.StorageV1().StorageClasses().Create(ctx, class, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating class %s: %w", name, err)
		}
	}
	wake := &storagev1.CSIStorageCapacity{ObjectMeta: metav1.ObjectMeta{Name: plane.WakeName, Namespace: plane.WakeNamespace}}
	wake.StorageClassName, wake.Capacity = plane.WakeName, resource.NewQuantity(0, resource.BinarySI)
	// The namespace is made by the API server, a moment after it is ready.
	err := wait.PollUntilContextTimeout(ctx, 100*time.Millisecond, time.Minute, true, func(ctx context.Context) (bool, error) {
		_, err := r.core.StorageV1().CSIStorageCapacities(wake.Namespace).Create(ctx, wake, metav1.CreateOptions{})
		if apierrors.IsNotFound(err) {
			return false, nil
		}
		return err == nil, err
	})
	if err != nil {
		return fmt.Errorf("creating the CSIStorageCapacity of the extender: %w", err)
	}
	return r.reportsReadable(ctx)
}

func (r *round) classNames() []string {
	names := []string{"open-local-lvm"}
	for i := 1; i < r.o.classes; i++ {
		names = append(names, fmt.Sprintf("open-local-lvm-%d", i))
	}
	return names
}

// define defines our kinds.
func (r *round) define(ctx context.Context) error {
	source, err := build.Source()
	if err != nil {
		return err
	}
	files, err := filepath.Glob(filepath.Join(source, "..", "..", "helm", "crds", "*.yaml"))
	if err != nil || len(files) == 0 {
		return fmt.Errorf("finding the definitions of our kinds near %s: %w", source, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			return fmt.Errorf("reading a definition: %w", err)
		}
		var definition unstructured.Unstructured
		if err := yaml.Unmarshal(text, &definition.Object); err != nil {
			return fmt.Errorf("reading the definition %s: %w", file, err)
		}
		if _, err := r.dynamic.Resource(definitions).Create(ctx, &definition, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("defining %s: %w", definition.GetName(), err)
		}
	}
	return nil
}

// reportsReadable waits for the API server to serve a kind that was just defined.
func (r *round) reportsReadable(ctx context.Context) error {
	last := r.fleet.Names()[r.o.nodes-1]
	for {
		_, err := r.storage.CsiV1alpha1().NodeLocalStorages().Get(ctx, last, metav1.GetOptions{})
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for the reports of nodes: %w", context.Cause(ctx))
		case <-time.After(100 * time.Millisecond):
		}
		if time.Since(r.began) > 5*time.Minute {
			return fmt.Errorf("reading the report of node %s: %w", last, err)
		}
	}
}
