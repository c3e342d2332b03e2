package service

import (
	"context"
	"fmt"
	"time"

	corev1 "k8s.io/api/core/v1"
	discoveryv1 "k8s.io/api/discovery/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	corelisters "k8s.io/client-go/listers/core/v1"
	discoverylisters "k8s.io/client-go/listers/discovery/v1"
	"k8s.io/client-go/tools/cache"
)

// pace is how long changes are collected before a new table is made.
const pace = 20 * time.Millisecond

// Watch makes a table whenever Services or their endpoints change, and gives it
// to every user, until ctx ends.
func Watch(ctx context.Context, client kubernetes.Interface, users ...func(Table)) error {
	factory := informers.NewSharedInformerFactory(client, 0)
	defer factory.Shutdown()
	changed := make(chan struct{}, 1)
	note := func() {
		select {
		case changed <- struct{}{}:
		default: // one note is enough
		}
	}
	services := factory.Core().V1().Services()
	endpoints := factory.Discovery().V1().EndpointSlices()
	for _, informer := range []cache.SharedIndexInformer{services.Informer(), endpoints.Informer()} {
		_, err := informer.AddEventHandler(cache.ResourceEventHandlerFuncs{
			AddFunc:    func(any) { note() },
			UpdateFunc: func(any, any) { note() },
			DeleteFunc: func(any) { note() },
		})
		if err != nil {
			return fmt.Errorf("watching Services: %w", err)
		}
	}
	// Taken before the start: a lister asked for later would come too late.
	listers := listers{services.Lister(), endpoints.Lister()}
	factory.Start(ctx.Done())
	factory.WaitForCacheSync(ctx.Done())
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-changed:
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(pace):
		}
		table, err := listers.table()
		if err != nil {
			return err
		}
		for _, use := range users {
			use(table)
		}
	}
}

type listers struct {
	services  corelisters.ServiceLister
	endpoints discoverylisters.EndpointSliceLister
}

func (l listers) table() (Table, error) {
	var services []*corev1.Service
	var endpoints []*discoveryv1.EndpointSlice
	services, err := l.services.List(labels.Everything())
	if err != nil {
		return Table{}, fmt.Errorf("listing Services: %w", err)
	}
	endpoints, err = l.endpoints.List(labels.Everything())
	if err != nil {
		return Table{}, fmt.Errorf("listing endpoints: %w", err)
	}
	return MakeTable(services, endpoints), nil
}
