package hollow

import (
	"context"
	"encoding/json"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/utils/ptr"
)

// Kubelets runs the pods of all nodes: a pod runs when its claims are bound, and is gone
// when it is deleted.
type Kubelets struct {
	client kubernetes.Interface
	pods   corelisters.PodLister
	claims corelisters.PersistentVolumeClaimLister
	queue  workqueue.TypedDelayingInterface[types.NamespacedName]
}

// NewKubelets follows pods and claims through informers that are started later.
func NewKubelets(client kubernetes.Interface, pods, claims cache.SharedIndexInformer) (*Kubelets, error) {
	k := &Kubelets{
		client: client, pods: corelisters.NewPodLister(pods.GetIndexer()), claims: corelisters.NewPersistentVolumeClaimLister(claims.GetIndexer()),
		queue: workqueue.NewTypedDelayingQueue[types.NamespacedName](),
	}
	look := func(obj any) {
		if pod, ok := obj.(*corev1.Pod); ok && pod.Spec.NodeName != "" && (pod.Status.Phase == corev1.PodPending || pod.DeletionTimestamp != nil) {
			k.queue.Add(types.NamespacedName{Namespace: pod.Namespace, Name: pod.Name})
		}
	}
	_, err := pods.AddEventHandler(cache.ResourceEventHandlerFuncs{AddFunc: look, UpdateFunc: func(_, now any) { look(now) }})
	return k, err
}

// Run works until ctx ends, with that many workers.
func (k *Kubelets) Run(ctx context.Context, workers int) {
	var done sync.WaitGroup
	for range workers {
		done.Go(func() {
			for {
				name, closed := k.queue.Get()
				if closed {
					return
				}
				if finished, err := k.see(ctx, name); err != nil || !finished {
					k.queue.AddAfter(name, 200*time.Millisecond)
				}
				k.queue.Done(name)
			}
		})
	}
	<-ctx.Done()
	k.queue.ShutDown()
	done.Wait()
}

// see does what is to be done for a pod.
func (k *Kubelets) see(ctx context.Context, name types.NamespacedName) (finished bool, err error) {
	pod, err := k.pods.Pods(name.Namespace).Get(name.Name)
	switch {
	case apierrors.IsNotFound(err):
		return true, nil
	case err != nil:
		return false, err
	case pod.DeletionTimestamp != nil:
		err := k.client.CoreV1().Pods(pod.Namespace).Delete(ctx, pod.Name, metav1.DeleteOptions{
			GracePeriodSeconds: ptr.To[int64](0), Preconditions: metav1.NewUIDPreconditions(string(pod.UID)),
		})
		return true, ignoreGone(err)
	case pod.Status.Phase != corev1.PodPending:
		return true, nil
	case !k.mounted(pod):
		return false, nil
	}
	patch, err := json.Marshal(map[string]any{"status": corev1.PodStatus{
		Phase: corev1.PodRunning, StartTime: ptr.To(metav1.Now()),
		Conditions: []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.Now()}},
	}})
	if err != nil {
		return false, err
	}
	_, err = k.client.CoreV1().Pods(pod.Namespace).Patch(ctx, pod.Name, types.StrategicMergePatchType, patch, metav1.PatchOptions{}, "status")
	return true, ignoreGone(err)
}

func ignoreGone(err error) error {
	if apierrors.IsNotFound(err) || apierrors.IsConflict(err) {
		return nil
	}
	return err
}

// mounted reports whether all that the pod mounts is there.
func (k *Kubelets) mounted(pod *corev1.Pod) bool {
	for _, v := range pod.Spec.Volumes {
		if v.PersistentVolumeClaim == nil {
			continue
		}
		claim, err := k.claims.PersistentVolumeClaims(pod.Namespace).Get(v.PersistentVolumeClaim.ClaimName)
		if err != nil || claim.Status.Phase != corev1.ClaimBound {
			return false
		}
	}
	return true
}
