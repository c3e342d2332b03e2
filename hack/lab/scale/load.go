package main

import (
	"context"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// hands is how many objects are created or deleted at one time.
const hands = 16

// A load is who creates and deletes pods.
type load struct {
	client  kubernetes.Interface
	view    *view
	o       options
	classes []string
	volumes bool // pods have claims

	next   int
	living []string // names of pods, the oldest first
}

// names returns names for so many new pods.
func (l *load) names(count int) []string {
	names := make([]string, count)
	for i := range names {
		names[i] = fmt.Sprintf("pod-%06d", l.next)
		l.next++
	}
	return names
}

func each(ctx context.Context, names []string, do func(context.Context, string) error) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(hands)
	for _, name := range names {
		if ctx.Err() != nil {
			break
		}
		group.Go(func() error { return do(ctx, name) })
	}
	return group.Wait()
}

// create creates pods with their claims.
func (l *load) create(ctx context.Context, names []string) error {
	l.living = append(l.living, names...)
	return each(ctx, names, func(ctx context.Context, name string) error {
		pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
		pod.Spec.Containers = []corev1.Container{{Name: "main", Image: "registry.k8s.io/pause:3.10"}}
		for i := range l.claimsOf() {
			claim := claimName(name, i)
			if err := l.createClaim(ctx, claim, l.classes[i%len(l.classes)]); err != nil {
				return err
			}
			pod.Spec.Volumes = append(pod.Spec.Volumes, corev1.Volume{Name: fmt.Sprintf("v%d", i), VolumeSource: corev1.VolumeSource{
				PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim},
			}})
		}
		l.view.podCreated(name)
		if _, err := l.client.CoreV1().Pods(namespace).Create(ctx, pod, metav1.CreateOptions{}); err != nil {
			return fmt.Errorf("creating pod %s: %w", name, err)
		}
		return nil
	})
}

func (l *load) claimsOf() int {
	if l.volumes {
		return l.o.claims
	}
	return 0
}

func claimName(pod string, i int) string { return fmt.Sprintf("%s-%d", pod, i) }

func (l *load) createClaim(ctx context.Context, name, class string) error {
	claim := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Name: name, Namespace: namespace}}
	claim.Spec.StorageClassName = &class
	claim.Spec.AccessModes = []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}
	claim.Spec.Resources.Requests = corev1.ResourceList{corev1.ResourceStorage: *resource.NewQuantity(int64(l.o.claimSize), resource.BinarySI)}
	l.view.claimCreated(name)
	if _, err := l.client.CoreV1().PersistentVolumeClaims(namespace).Create(ctx, claim, metav1.CreateOptions{}); err != nil {
		return fmt.Errorf("creating claim %s: %w", name, err)
	}
	return nil
}

// remove deletes the oldest pods, with their claims.
func (l *load) remove(ctx context.Context, count int) error {
	names := l.living[:count]
	l.living = l.living[count:]
	return each(ctx, names, func(ctx context.Context, name string) error {
		if err := l.client.CoreV1().Pods(namespace).Delete(ctx, name, metav1.DeleteOptions{}); err != nil && !apierrors.IsNotFound(err) {
			return fmt.Errorf("deleting pod %s: %w", name, err)
		}
		for i := range l.claimsOf() {
			err := l.client.CoreV1().PersistentVolumeClaims(namespace).Delete(ctx, claimName(name, i), metav1.DeleteOptions{})
			if err != nil && !apierrors.IsNotFound(err) {
				return fmt.Errorf("deleting claim %s: %w", claimName(name, i), err)
			}
		}
		return nil
	})
}

// why returns what the scheduler last said of a pod.
func (l *load) why(ctx context.Context, pod string) string {
	events, err := l.client.CoreV1().Events(namespace).List(ctx, metav1.ListOptions{FieldSelector: "involvedObject.name=" + pod})
	if err != nil {
		return err.Error()
	}
	said, at := "nothing was said of it", time.Time{}
	for i := range events.Items {
		e := &events.Items[i]
		when := e.LastTimestamp.Time
		if when.IsZero() {
			when = e.EventTime.Time
		}
		if when.After(at) {
			said, at = e.Reason+": "+e.Message, when
		}
	}
	return said
}
