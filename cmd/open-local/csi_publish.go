package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/pflag"
	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/clock"
	"k8s.io/utils/ptr"

	"github.com/open-local/open-local/pkg/directory"
	"github.com/open-local/open-local/pkg/tracking"
)

// publishOptions say where the capacity of nodes is published.
type publishOptions struct {
	where string // NAMESPACE or NAMESPACE/DEPLOYMENT; empty publishes nothing
	qps   int
	burst int
}

func (o *publishOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.where, "publish-capacity", "", "controller: NAMESPACE/DEPLOYMENT: publish what volumes may take on each node as CSIStorageCapacity objects in that namespace, which go with that Deployment; or NAMESPACE alone (default: publish nothing)")
	flags.IntVar(&o.qps, "publish-capacity-qps", 100, "controller: how many of these objects are written in a second")
	flags.IntVar(&o.burst, "publish-capacity-burst", 200, "controller: how many of them are written at once")
}

func (o *publishOptions) check(complain func(wrong bool, format string, args ...any)) {
	namespace, deployment, owned := strings.Cut(o.where, "/")
	complain(o.where != "" && (namespace == "" || owned && deployment == "" || strings.Contains(deployment, "/")), "--publish-capacity %q is neither NAMESPACE/DEPLOYMENT nor NAMESPACE", o.where)
	complain(o.qps < 1, "--publish-capacity-qps %d is not above zero", o.qps)
	complain(o.burst < o.qps, "--publish-capacity-burst %d is less than the %d of --publish-capacity-qps", o.burst, o.qps)
}

// publish has the capacity of all nodes be published, from what the directory knows. It
// must be called before the directory runs.
func (r *csiRun) publish(ctx context.Context, where *directory.Directory) error {
	o := r.o.publish
	if o.where == "" {
		return nil
	}
	config := rest.CopyConfig(r.coreConfig) // for writing has a pace of its own
	config.QPS, config.Burst = float32(o.qps), o.burst
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return err
	}
	namespace, deployment, _ := strings.Cut(o.where, "/")
	owner, err := owning(ctx, client, namespace, deployment)
	if err != nil {
		return err
	}
	publisher := tracking.New(tracking.Options{
		Client: client, Nodes: where, Driver: r.o.driver, Namespace: namespace, Owner: owner, Clock: clock.RealClock{}, Registry: r.registry,
	})
	where.Listen(publisher.Changed)
	r.follow = append(r.follow, publisher.Run)
	return nil
}

// owning returns the Deployment as an owner, or nothing when it has no name.
func owning(ctx context.Context, client kubernetes.Interface, namespace, name string) (*metav1.OwnerReference, error) {
	if name == "" {
		return nil, nil
	}
	deployment, err := client.AppsV1().Deployments(namespace).Get(ctx, name, metav1.GetOptions{})
	if err != nil {
		return nil, fmt.Errorf("finding Deployment %s/%s, which is to own what is published: %w", namespace, name, err)
	}
	kind := appsv1.SchemeGroupVersion.WithKind("Deployment")
	return &metav1.OwnerReference{APIVersion: kind.GroupVersion().String(), Kind: kind.Kind, Name: name, UID: deployment.UID, Controller: ptr.To(false)}, nil
}
