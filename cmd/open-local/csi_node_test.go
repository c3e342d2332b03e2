package main

import (
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"

	"github.com/open-local/open-local/pkg/driver"
)

type owner map[string][2]string

func (o owner) Claim(id string) (namespace, name string, ok bool) {
	claim, ok := o[id]
	return claim[0], claim[1], ok
}

func TestEventsAreAboutWhatPeopleLookAt(t *testing.T) {
	const id = "local-0f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c11"
	teller := teller{owners: owner{id: {"shop", "data"}, "odd-handle": {"shop", "other"}}}
	for name, tc := range map[string]struct {
		about driver.Subject
		want  corev1.ObjectReference
	}{
		"a pod": {
			driver.Subject{Volume: id, Namespace: "shop", PodName: "web-0", PodUID: "1"},
			corev1.ObjectReference{APIVersion: "v1", Kind: "Pod", Namespace: "shop", Name: "web-0", UID: "1"},
		},
		"a claim": {
			driver.Subject{Volume: id},
			corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "data", UID: "0f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c11"},
		},
		"a claim whose UID is not known": {
			driver.Subject{Volume: "odd-handle"},
			corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolumeClaim", Namespace: "shop", Name: "other"},
		},
		"a volume of nobody known": {
			driver.Subject{Volume: "local-1"},
			corev1.ObjectReference{APIVersion: "v1", Kind: "PersistentVolume", Name: "local-1"},
		},
	} {
		t.Run(name, func(t *testing.T) {
			if diff := cmp.Diff(&tc.want, teller.reference(tc.about)); diff != "" {
				t.Errorf("reference (-want +got):\n%s", diff)
			}
		})
	}
}
