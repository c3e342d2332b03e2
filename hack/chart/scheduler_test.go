package chart

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"sigs.k8s.io/yaml"
)

func TestASecondSchedulerAsksTheExtenderBesideIt(t *testing.T) {
	all := install(t, values{"scheduler": values{"mode": "secondary", "name": "local-scheduler"}, "extender": values{"port": 24000}})
	pod := get[*appsv1.Deployment](t, all, "open-local-scheduler-extender").Spec.Template.Spec
	scheduler := container(t, pod, "kube-scheduler")
	if !strings.HasPrefix(scheduler.Image, "registry.k8s.io/kube-scheduler:v1.") {
		t.Errorf("its image is %s, not that of the cluster's version", scheduler.Image)
	}
	var config struct {
		Profiles       []struct{ SchedulerName string }
		Extenders      []struct{ URLPrefix, FilterVerb, PrioritizeVerb string }
		LeaderElection struct{ ResourceName, ResourceNamespace string }
	}
	if err := yaml.Unmarshal([]byte(get[*corev1.ConfigMap](t, all, "open-local-scheduler").Data["config.yaml"]), &config); err != nil {
		t.Fatal(err)
	}
	if len(config.Profiles) != 1 || config.Profiles[0].SchedulerName != "local-scheduler" {
		t.Errorf("it serves %+v", config.Profiles)
	}
	if len(config.Extenders) != 1 || config.Extenders[0].URLPrefix != "http://127.0.0.1:24000/scheduler" {
		t.Errorf("it asks %+v", config.Extenders)
	}
	lease := get[*rbacv1.Role](t, all, "open-local-scheduler").Rules[0].ResourceNames
	if !slices.Contains(lease, config.LeaderElection.ResourceName) || config.LeaderElection.ResourceNamespace != "kube-system" {
		t.Errorf("it wants the lease %+v and may have %q", config.LeaderElection, lease)
	}
	for _, role := range []string{"kube-scheduler", "volume-scheduler"} {
		binding := get[*rbacv1.ClusterRoleBinding](t, all, "open-local-scheduler-"+role)
		if binding.RoleRef.Name != "system:"+role || binding.Subjects[0].Name != pod.ServiceAccountName {
			t.Errorf("%s binds %s to %v", binding.Name, binding.RoleRef.Name, binding.Subjects)
		}
	}
}

func TestWithoutAnExtenderNothingSpeaksOfIt(t *testing.T) {
	all := install(t, values{"scheduler": values{"mode": "none"}})
	want := []string{"open-local-controller", "open-local-csi-controller"}
	if diff := cmp.Diff(want, names[*appsv1.Deployment](all)); diff != "" {
		t.Errorf("Deployments (-want +got):\n%s", diff)
	}
	if found := names[*corev1.Service](all); len(found) > 0 {
		t.Errorf("there are Services %q", found)
	}
	if slices.Contains(names[*corev1.ServiceAccount](all), "open-local-scheduler-extender") {
		t.Error("there is an account for the extender")
	}
	pod := get[*appsv1.Deployment](t, all, "open-local-csi-controller").Spec.Template.Spec
	for _, arg := range container(t, pod, "csi").Args {
		if strings.Contains(arg, "extender") {
			t.Errorf("the CSI controller is told %s", arg)
		}
	}
}
