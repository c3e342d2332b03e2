package main

import (
	"bufio"
	"cmp"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/spf13/pflag"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/uuid"
	"k8s.io/apimachinery/pkg/util/validation"
	"k8s.io/apimachinery/pkg/util/wait"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/volume"
)

// adoption says for what an orphan is adopted.
type adoption struct {
	claim, class, fsType string
	block                bool
}

func (a *adoption) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&a.claim, "claim", "", "NAMESPACE/NAME of the only claim that may have it (default: any)")
	flags.StringVar(&a.class, "storage-class", "", "class of the PersistentVolume")
	flags.StringVar(&a.fsType, "fs-type", "", "the file system on it (default: what the node found there)")
	flags.BoolVar(&a.block, "block", false, "it was used as a raw block device")
}

// adopt makes a PersistentVolume that is never deleted by itself.
func (o *orphansOptions) adopt(ctx context.Context, out io.Writer, node, id string) error {
	orphan, err := o.find(ctx, node, id)
	if err != nil {
		return err
	}
	pv := o.volumeFor(node, orphan)
	if err := o.apply(pv, orphan); err != nil {
		return err
	}
	if _, err := o.core.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making a PersistentVolume for volume %s: %w", id, err)
	}
	_, err = fmt.Fprintf(out, "made PersistentVolume %s for volume %s on node %s: %s with volumeName: %s can use it\n",
		pv.Name, id, node, cmp.Or(o.claim, "any claim"), pv.Name)
	return err
}

// apply says in pv what the orphan holds and whom it is for.
func (a *adoption) apply(pv *corev1.PersistentVolume, orphan v1alpha1.Orphan) error {
	block := a.block || orphan.Block
	fsType := cmp.Or(a.fsType, orphan.FsType)
	switch {
	case block && a.fsType != "":
		return errors.New("--block and --fs-type exclude each other")
	case block:
		pv.Spec.VolumeMode = new(corev1.PersistentVolumeBlock)
	case fsType == "" && orphan.VolumeType != string(volume.MountPoint):
		return fmt.Errorf("what is on volume %s could not be told: say --block or --fs-type", orphan.VolumeID)
	default:
		pv.Spec.CSI.FSType = fsType
	}
	if a.claim == "" {
		return nil
	}
	namespace, name, ok := strings.Cut(a.claim, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("--claim %q is not of the form NAMESPACE/NAME", a.claim)
	}
	pv.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: namespace, Name: name}
	return nil
}

// volumeFor returns the PersistentVolume that csi-provisioner would have made of the
// orphan, but that is retained.
func (o *orphansOptions) volumeFor(node string, orphan v1alpha1.Orphan) *corev1.PersistentVolume {
	knows := volume.Context{Kind: volume.Kind(orphan.VolumeType), Group: orphan.VGName, Path: orphan.Path, Identity: orphan.ID}
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{
			Name: objectName(orphan.VolumeID),
			// Without it csi-provisioner would never delete it, should its policy be changed.
			Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": o.driver},
		},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:                      corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(orphan.Total, resource.BinarySI)},
			AccessModes:                   []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimRetain,
			StorageClassName:              o.class,
			VolumeMode:                    new(corev1.PersistentVolumeFilesystem),
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: o.driver, VolumeHandle: orphan.VolumeID, VolumeAttributes: knows.Attributes(),
			}},
			NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchExpressions: []corev1.NodeSelectorRequirement{{Key: volume.TopologyKey, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}},
			}}}},
		},
	}
}

// objectName returns what an object for the volume is called: as its handle, where that
// can be.
func objectName(id string) string {
	if len(validation.IsDNS1123Subdomain(id)) == 0 {
		return id
	}
	sum := sha256.Sum256([]byte(id))
	return "orphan-" + hex.EncodeToString(sum[:16])
}

// remove has an orphan deleted as every volume is: by csi-provisioner, because there is a
// PersistentVolume whose claim is gone.
func (o *orphansOptions) remove(ctx context.Context, in io.Reader, out io.Writer, node, id string) error {
	orphan, err := o.find(ctx, node, id)
	if err != nil {
		return err
	}
	if !o.yes {
		if err := confirm(in, out, node, orphan); err != nil {
			return err
		}
	}
	pv := o.volumeFor(node, orphan)
	pv.Spec.PersistentVolumeReclaimPolicy = corev1.PersistentVolumeReclaimDelete
	namespace, name, known := strings.Cut(orphan.Claim, "/")
	if !known {
		namespace, name = metav1.NamespaceDefault, pv.Name
	}
	// A UID that no claim has: the claim counts as gone, even where there is another of the
	// same name, and nobody can bind the volume meanwhile.
	pv.Spec.ClaimRef = &corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: namespace, Name: name, UID: uuid.NewUUID()}
	if _, err := o.core.CoreV1().PersistentVolumes().Create(ctx, pv, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("making a PersistentVolume that is to be deleted for volume %s: %w", id, err)
	}
	if err := o.awaitRemoval(ctx, pv.Name); err != nil {
		return fmt.Errorf("removing volume %s from node %s: %w", id, node, err)
	}
	_, err = fmt.Fprintf(out, "removed volume %s from node %s\n", id, node)
	return err
}

// confirm asks, and returns an error unless the answer is yes.
func confirm(in io.Reader, out io.Writer, node string, orphan v1alpha1.Orphan) error {
	whose := ""
	if orphan.Claim != "" {
		whose = ", made for claim " + orphan.Claim
	}
	_, err := fmt.Fprintf(out, "Remove volume %s from node %s (%s in %s%s) and all data on it? Type yes: ",
		orphan.VolumeID, node, capacity.Bytes(orphan.Total), cmp.Or(orphan.VGName, orphan.Path), whose)
	if err != nil {
		return err
	}
	answer, err := bufio.NewReader(in).ReadString('\n')
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("reading the answer: %w", err)
	}
	if strings.TrimSpace(answer) != "yes" {
		return errors.New("nothing was removed")
	}
	return nil
}

// awaitRemoval waits until the PersistentVolume is gone, and else says what became of it.
func (o *orphansOptions) awaitRemoval(ctx context.Context, name string) error {
	err := wait.PollUntilContextTimeout(ctx, 500*time.Millisecond, o.wait, true, func(ctx context.Context) (bool, error) {
		_, err := o.core.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
		if apierrors.IsNotFound(err) {
			return true, nil
		}
		return false, err
	})
	if err == nil {
		return nil
	}
	return fmt.Errorf(`%w%s; PersistentVolume %s is still there and its deletion is tried again. To give up: kubectl patch pv %s -p '{"spec":{"persistentVolumeReclaimPolicy":"Retain"}}', then kubectl delete pv %s`,
		err, o.lastEvent(ctx, name), name, name, name)
}

// lastEvent returns what was said last of a PersistentVolume.
func (o *orphansOptions) lastEvent(ctx context.Context, name string) string {
	events, err := o.core.CoreV1().Events(metav1.NamespaceDefault).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.kind=PersistentVolume,involvedObject.name=" + name})
	if err != nil {
		return ""
	}
	var last *corev1.Event
	for i := range events.Items {
		if e := &events.Items[i]; last == nil || last.LastTimestamp.Before(&e.LastTimestamp) {
			last = e
		}
	}
	if last == nil {
		return ""
	}
	return ": " + last.Reason + ": " + last.Message
}
