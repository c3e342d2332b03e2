package main

import (
	"strings"
	"testing"

	appsv1 "k8s.io/api/apps/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
)

func TestWhereCapacityIsPublishedMustBeSaidRight(t *testing.T) {
	for name, test := range map[string]struct {
		o     publishOptions
		wrong string
	}{
		"nowhere":                        {publishOptions{qps: 1, burst: 1}, ""},
		"in a namespace":                 {publishOptions{where: "kube-system", qps: 1, burst: 2}, ""},
		"going with a Deployment":        {publishOptions{where: "kube-system/csi", qps: 1, burst: 2}, ""},
		"without a namespace":            {publishOptions{where: "/csi", qps: 1, burst: 2}, `--publish-capacity "/csi"`},
		"without a Deployment":           {publishOptions{where: "kube-system/", qps: 1, burst: 2}, `--publish-capacity "kube-system/"`},
		"of too many parts":              {publishOptions{where: "a/b/c", qps: 1, burst: 2}, `--publish-capacity "a/b/c"`},
		"never":                          {publishOptions{where: "a", burst: 2}, "--publish-capacity-qps 0 is not above zero"},
		"fewer at once than in a second": {publishOptions{where: "a", qps: 5, burst: 2}, "--publish-capacity-burst 2 is less than the 5"},
	} {
		t.Run(name, func(t *testing.T) {
			o := csiOptions{mode: modeController, driver: "d", endpoint: "unix:///s", nodePort: 1, prefer: "binpack", publish: test.o}
			err := o.validate()
			if (err == nil) != (test.wrong == "") || err != nil && !strings.Contains(err.Error(), test.wrong) {
				t.Errorf("got %v, want %q", err, test.wrong)
			}
		})
	}
}

func TestWhatIsPublishedGoesWithItsDeployment(t *testing.T) {
	client := fake.NewClientset(&appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: "kube-system", Name: "csi", UID: "1234"}})
	owner, err := owning(t.Context(), client, "kube-system", "csi")
	if err != nil || owner.APIVersion != "apps/v1" || owner.Kind != "Deployment" || owner.Name != "csi" || owner.UID != "1234" {
		t.Errorf("owner is %v, %v", owner, err)
	}
	if owner, err := owning(t.Context(), client, "kube-system", ""); owner != nil || err != nil {
		t.Errorf("without a name the owner is %v, %v", owner, err)
	}
	if _, err := owning(t.Context(), client, "kube-system", "other"); err == nil || !strings.Contains(err.Error(), "finding Deployment kube-system/other") {
		t.Errorf("of a Deployment that is not there: %v", err)
	}
}
