package controller

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

// The label on every NodeLocalStorage that a controller created.
const (
	managedBy = "app.kubernetes.io/managed-by"
	manager   = "open-local-controller"
)

// syncConfig says what is wrong with the config, once for each version of its
// spec, and has every node looked at, once for each version of the object.
func (c *Controller) syncConfig(ctx context.Context) error {
	object, err := c.configLister.Get(c.options.InitConfig)
	switch {
	case apierrors.IsNotFound(err):
		c.tellMissing(ctx)
		return nil
	case err != nil:
		return fmt.Errorf("reading init config %q: %w", c.options.InitConfig, err)
	}
	if c.firstTelling(object) {
		_, mistakes := parse(object.Spec)
		for _, m := range mistakes {
			c.events.Event(object, corev1.EventTypeWarning, m.reason, m.message)
		}
	}
	if c.followed(object) {
		return nil
	}
	if err := c.enqueueAll(); err != nil {
		return err
	}
	c.follow(object)
	return nil
}

// tellMissing says once that there is no config and nothing will be done.
func (c *Controller) tellMissing(ctx context.Context) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.told.missing {
		return
	}
	c.told, c.follows = told{missing: true}, ""
	klog.FromContext(ctx).Info("Waiting for the config; nothing is created, changed or deleted without it", "config", c.options.InitConfig)
}

// firstTelling reports whether this version of the spec was not spoken of yet.
func (c *Controller) firstTelling(object *v1alpha1.NodeLocalStorageInitConfig) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	now := told{uid: object.UID, generation: object.Generation}
	first := c.told != now
	c.told = now
	return first
}

// followed reports whether every node was looked at for this version of the config.
func (c *Controller) followed(object *v1alpha1.NodeLocalStorageInitConfig) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.follows != "" && c.follows == versionOf(object)
}

func (c *Controller) follow(object *v1alpha1.NodeLocalStorageInitConfig) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.follows = versionOf(object)
}

// versionOf tells one state of a config from another, also of one that was
// deleted and made again; it is empty when that cannot be told.
func versionOf(object *v1alpha1.NodeLocalStorageInitConfig) string {
	if object.ResourceVersion == "" {
		return ""
	}
	return string(object.UID) + "/" + object.ResourceVersion
}

func (c *Controller) enqueueAll() error {
	nodes, err := c.nodeLister.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("listing nodes: %w", err)
	}
	storages, err := c.nlsLister.List(labels.Everything())
	if err != nil {
		return fmt.Errorf("listing node local storages: %w", err)
	}
	for _, node := range nodes {
		c.queue.Add(key{node: node.Name})
	}
	for _, nls := range storages { // some may be left over from nodes that went while nobody watched
		c.queue.Add(key{node: nls.Name})
	}
	return nil
}

// current returns the config; ok is false when there is none.
func (c *Controller) current() (_ config, ok bool, _ error) {
	object, err := c.configLister.Get(c.options.InitConfig)
	switch {
	case apierrors.IsNotFound(err):
		return config{}, false, nil
	case err != nil:
		return config{}, false, fmt.Errorf("reading init config %q: %w", c.options.InitConfig, err)
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	version := versionOf(object)
	if version == "" || c.parsed.version != version {
		parsed, _ := parse(object.Spec)
		c.parsed = parsedConfig{version: version, config: parsed}
	}
	return c.parsed.config, true, nil
}

// syncNode brings the NodeLocalStorage of one node to what the config says.
func (c *Controller) syncNode(ctx context.Context, name string) error {
	cfg, ok, err := c.current()
	if err != nil || !ok {
		return err
	}
	node, err := c.nodeLister.Get(name)
	nodeGone := apierrors.IsNotFound(err)
	if err != nil && !nodeGone {
		return fmt.Errorf("reading node %q: %w", name, err)
	}
	nls, err := c.nlsLister.Get(name)
	nlsGone := apierrors.IsNotFound(err)
	if err != nil && !nlsGone {
		return fmt.Errorf("reading node local storage %q: %w", name, err)
	}
	switch {
	case nodeGone && nlsGone:
		return nil
	case nodeGone:
		return c.leftOver(ctx, nls)
	case nlsGone:
		return c.create(ctx, cfg.specFor(name, node.Labels))
	}
	return c.update(ctx, nls, cfg.specFor(name, node.Labels))
}

func (c *Controller) create(ctx context.Context, spec v1alpha1.NodeLocalStorageSpec) error {
	nls := &v1alpha1.NodeLocalStorage{
		ObjectMeta: metav1.ObjectMeta{Name: spec.NodeName, Labels: map[string]string{managedBy: manager}},
		Spec:       spec,
	}
	_, err := c.client.CsiV1alpha1().NodeLocalStorages().Create(ctx, nls, metav1.CreateOptions{})
	switch {
	case apierrors.IsAlreadyExists(err): // the cache is behind; its event will come
		return nil
	case err != nil:
		return fmt.Errorf("creating node local storage %q: %w", spec.NodeName, err)
	}
	klog.FromContext(ctx).Info("Created node local storage", "node", spec.NodeName)
	return nil
}

// update sets the spec right. It writes the spec as a whole and nothing beside
// it, and only to the very object that was compared.
func (c *Controller) update(ctx context.Context, nls *v1alpha1.NodeLocalStorage, want v1alpha1.NodeLocalStorageSpec) error {
	if !c.options.Update || nls.DeletionTimestamp != nil || equality.Semantic.DeepEqual(nls.Spec, want) {
		return nil
	}
	patch, err := json.Marshal([]map[string]any{
		{"op": "test", "path": "/metadata/uid", "value": nls.UID},
		{"op": "add", "path": "/spec", "value": want},
	})
	if err != nil {
		return fmt.Errorf("encoding the spec of node local storage %q: %w", nls.Name, err)
	}
	_, err = c.client.CsiV1alpha1().NodeLocalStorages().Patch(ctx, nls.Name, types.JSONPatchType, patch, metav1.PatchOptions{})
	switch {
	case apierrors.IsNotFound(err): // deleted since; its event will come
		return nil
	case err != nil:
		return fmt.Errorf("updating the spec of node local storage %q: %w", nls.Name, err)
	}
	klog.FromContext(ctx).Info("Updated node local storage", "node", nls.Name)
	return nil
}

// leftOver deletes the NodeLocalStorage of a node that is gone. It asks the API
// server itself, because a cache may be behind, and it spares an object that was
// written by hand for a node still to come: one that no controller created and
// no agent ever reported on.
func (c *Controller) leftOver(ctx context.Context, nls *v1alpha1.NodeLocalStorage) error {
	if nls.DeletionTimestamp != nil || (nls.Labels[managedBy] != manager && nls.Status.NodeStorageInfo.Phase == "") {
		return nil
	}
	_, err := c.nodes.CoreV1().Nodes().Get(ctx, nls.Name, metav1.GetOptions{})
	switch {
	case err == nil:
		return nil // the node's own event will come
	case !apierrors.IsNotFound(err):
		return fmt.Errorf("making sure that node %q is gone: %w", nls.Name, err)
	}
	err = c.client.CsiV1alpha1().NodeLocalStorages().Delete(ctx, nls.Name, metav1.DeleteOptions{
		Preconditions: &metav1.Preconditions{UID: &nls.UID},
	})
	if err != nil && !apierrors.IsNotFound(err) {
		return fmt.Errorf("deleting node local storage %q of a node that is gone: %w", nls.Name, err)
	}
	klog.FromContext(ctx).Info("Deleted node local storage of a node that is gone", "node", nls.Name)
	return nil
}

// trimStatus keeps of a status only whether there ever was a report, and the handles of
// the volumes in it, which are for others. The rest is large.
func trimStatus(object any) (any, error) {
	if nls, ok := object.(*v1alpha1.NodeLocalStorage); ok {
		reported := nls.Status.NodeStorageInfo
		nls.Status = v1alpha1.NodeLocalStorageStatus{}
		nls.Status.NodeStorageInfo = handlesOf(reported)
		nls.ManagedFields = nil
	}
	return object, nil
}

// handlesOf returns the handles of all volumes in a report that are not deleted, and its
// phase.
func handlesOf(reported v1alpha1.NodeStorageInfo) v1alpha1.NodeStorageInfo {
	kept := v1alpha1.NodeStorageInfo{Phase: reported.Phase}
	for _, group := range reported.VolumeGroups {
		var volumes []v1alpha1.LogicalVolume
		for i := range group.LogicalVolumes {
			if v := &group.LogicalVolumes[i]; v.VolumeID != "" && !v.Deleted {
				volumes = append(volumes, v1alpha1.LogicalVolume{VolumeID: v.VolumeID})
			}
		}
		if len(volumes) > 0 {
			kept.VolumeGroups = append(kept.VolumeGroups, v1alpha1.VolumeGroup{LogicalVolumes: volumes})
		}
	}
	for i := range reported.DeviceInfos {
		if id := reported.DeviceInfos[i].VolumeID; id != "" {
			kept.DeviceInfos = append(kept.DeviceInfos, v1alpha1.DeviceInfo{VolumeID: id})
		}
	}
	for i := range reported.MountPoints {
		if id := reported.MountPoints[i].VolumeID; id != "" {
			kept.MountPoints = append(kept.MountPoints, v1alpha1.MountPoint{VolumeID: id})
		}
	}
	return kept
}

// nodeChanged reports whether a config may say something else for the node now.
func nodeChanged(before, after any) bool {
	old, okOld := before.(*corev1.Node)
	now, okNow := after.(*corev1.Node)
	return !okOld || !okNow || old.UID != now.UID || !maps.Equal(old.Labels, now.Labels)
}

// specChanged reports whether a NodeLocalStorage may need setting right.
func specChanged(before, after any) bool {
	old, okOld := before.(*v1alpha1.NodeLocalStorage)
	now, okNow := after.(*v1alpha1.NodeLocalStorage)
	return !okOld || !okNow || old.UID != now.UID || !equality.Semantic.DeepEqual(old.Spec, now.Spec)
}
