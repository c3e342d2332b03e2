package chart

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
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

func TestTheSecondSchedulerIsOfAReleaseThatHasAnImage(t *testing.T) {
	for name, test := range map[string]struct{ cluster, tag, want string }{
		"a cluster of no vendor":                   {"v1.36.3", "", "v1.36.3"},
		"EKS adds a build":                         {"v1.31.4-eks-2d5f260", "", "v1.31.4"},
		"GKE adds a build":                         {"v1.31.4-gke.1372000", "", "v1.31.4"},
		"k3s adds its own release":                 {"v1.31.4+k3s1", "", "v1.31.4"},
		"RKE2 adds its own release":                {"v1.31.4+rke2r1", "", "v1.31.4"},
		"a candidate of RKE2 is of a release":      {"v1.31.4-rc1+rke2r1", "", "v1.31.4"},
		"a candidate of Kubernetes has its image":  {"v1.37.0-rc.1", "", "v1.37.0-rc.1"},
		"a build on the way to one is of the last": {"v1.37.0-alpha.2.41+9c1e5e0b0a", "", "v1.37.0-alpha.2"},
		"the tag that was asked for is left to be": {"v1.31.4+k3s1", "v1.31.4-mirror", "v1.31.4-mirror"},
	} {
		t.Run(name, func(t *testing.T) {
			all := cluster{version: test.cluster}.install(t, values{
				"scheduler": values{"mode": "secondary"}, "images": values{"scheduler": values{"tag": test.tag}},
			})
			pod := get[*appsv1.Deployment](t, all, "open-local-scheduler-extender").Spec.Template.Spec
			if got, want := container(t, pod, "kube-scheduler").Image, "registry.k8s.io/kube-scheduler:"+test.want; got != want {
				t.Errorf("its image is %s, want %s", got, want)
			}
		})
	}
}

func TestAnExtenderOnThePortsOfItsNodeGoesBeforeTheNextComes(t *testing.T) {
	zero, one := intstr.FromInt32(0), intstr.FromInt32(1)
	for name, test := range map[string]struct {
		onNode bool
		want   appsv1.DeploymentStrategy
	}{
		"on ports of its own, Kubernetes chooses": {false, appsv1.DeploymentStrategy{}},
		"on the ports of its node, one at a time": {true, appsv1.DeploymentStrategy{
			Type: appsv1.RollingUpdateDeploymentStrategyType, RollingUpdate: &appsv1.RollingUpdateDeployment{MaxSurge: &zero, MaxUnavailable: &one},
		}},
	} {
		t.Run(name, func(t *testing.T) {
			spec := get[*appsv1.Deployment](t, install(t, values{"extender": values{"hostNetwork": test.onNode}}), "open-local-scheduler-extender").Spec
			if spec.Template.Spec.HostNetwork != test.onNode {
				t.Errorf("hostNetwork is %t", spec.Template.Spec.HostNetwork)
			}
			if diff := cmp.Diff(test.want, spec.Strategy); diff != "" {
				t.Errorf("strategy (-want +got):\n%s", diff)
			}
		})
	}
	_, err := cluster{}.render(values{"scheduler": values{"mode": "secondary"}, "extender": values{"hostNetwork": true}})
	if err == nil || !strings.Contains(err.Error(), "the second scheduler would want port 10259 of its node") {
		t.Errorf("beside a second scheduler: %v", err)
	}
}

// TestTheSchedulerIsAnsweredOverTLS looks at both ends of the connection.
func TestTheSchedulerIsAnsweredOverTLS(t *testing.T) {
	for name, test := range map[string]struct {
		certificates bool
		told         []string
		config       string
	}{
		"by anyone": {false, []string{"--verbs-tls-port=24444"}, `
enableHTTPS: true
filterVerb: predicates
nodeCacheCapable: true
prioritizeVerb: priorities
tlsConfig:
  caFile: /etc/kube-scheduler-tls/ca.crt
  serverName: open-local-scheduler-extender
urlPrefix: https://127.0.0.1:24444/scheduler
weight: 10
`},
		"with a certificate": {true, []string{"--verbs-tls-port=24444", "--verbs-client-name=open-local-scheduler"}, `
enableHTTPS: true
filterVerb: predicates
nodeCacheCapable: true
prioritizeVerb: priorities
tlsConfig:
  caFile: /etc/kube-scheduler-tls/ca.crt
  certFile: /etc/kube-scheduler-tls/tls.crt
  keyFile: /etc/kube-scheduler-tls/tls.key
  serverName: open-local-scheduler-extender
urlPrefix: https://127.0.0.1:24444/scheduler
weight: 10
`},
	} {
		t.Run(name, func(t *testing.T) {
			all := install(t, values{"scheduler": values{
				"mode": "secondary", "tls": values{"enabled": true, "port": 24444, "clientCertificates": test.certificates},
			}})
			pod := get[*appsv1.Deployment](t, all, "open-local-scheduler-extender").Spec.Template.Spec
			told := slices.DeleteFunc(slices.Clone(container(t, pod, "scheduler-extender").Args), func(arg string) bool { return !strings.HasPrefix(arg, "--verbs-") })
			if diff := cmp.Diff(test.told, told); diff != "" {
				t.Errorf("the extender is told (-want +got):\n%s", diff)
			}
			var config struct{ Extenders []map[string]any }
			if err := yaml.Unmarshal([]byte(get[*corev1.ConfigMap](t, all, "open-local-scheduler").Data["config.yaml"]), &config); err != nil {
				t.Fatal(err)
			}
			written, err := yaml.Marshal(config.Extenders[0])
			if diff := cmp.Diff(strings.TrimPrefix(test.config, "\n"), string(written)); err != nil || diff != "" {
				t.Errorf("the scheduler is told (-want +got):\n%s", diff)
			}
			mount := slices.IndexFunc(container(t, pod, "kube-scheduler").VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/etc/kube-scheduler-tls" })
			volume := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool {
				return v.Secret != nil && v.Secret.SecretName == "open-local-scheduler-tls"
			})
			if mount < 0 || volume < 0 || pod.Volumes[volume].Name != container(t, pod, "kube-scheduler").VolumeMounts[mount].Name {
				t.Error("the scheduler has not its certificate")
			}
			secret := get[*corev1.Secret](t, all, "open-local-scheduler-tls")
			if cert := certificate(t, secret.Data); cert.Subject.CommonName != "open-local-scheduler" {
				t.Errorf("its certificate is made for %q", cert.Subject.CommonName)
			}
			ports := get[*corev1.Service](t, all, "open-local-scheduler-extender").Spec.Ports
			if !slices.ContainsFunc(ports, func(p corev1.ServicePort) bool { return p.Port == 24444 && p.TargetPort.String() == "verbs-tls" }) {
				t.Errorf("the Service has the ports %v", ports)
			}
		})
	}
	for name, v := range map[string]values{"not asked for": nil, "there is no extender": {"scheduler": values{"mode": "none", "tls": values{"enabled": true}}}} {
		if slices.Contains(names[*corev1.Secret](install(t, v)), "open-local-scheduler-tls") {
			t.Errorf("%s: there is a certificate for the scheduler", name)
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

func TestWhetherTheSchedulerHeedsThePublishedCapacity(t *testing.T) {
	for name, test := range map[string]struct {
		scheduler values
		heeds     bool
		considers int // percent of nodes; 0 is for the scheduler to choose
	}{
		"unless told otherwise, it does":                              {values{"mode": "secondary"}, true, 0},
		"told not to, the extender is asked about every node instead": {values{"mode": "secondary", "capacityTracking": false}, false, 100},
	} {
		t.Run(name, func(t *testing.T) {
			all := install(t, values{"scheduler": test.scheduler})
			if got := *get[*storagev1.CSIDriver](t, all, "local.csi.aliyun.com").Spec.StorageCapacity; got != test.heeds {
				t.Errorf("storageCapacity is %t, want %t", got, test.heeds)
			}
			var config struct{ PercentageOfNodesToScore int }
			if err := yaml.Unmarshal([]byte(get[*corev1.ConfigMap](t, all, "open-local-scheduler").Data["config.yaml"]), &config); err != nil {
				t.Fatal(err)
			}
			if config.PercentageOfNodesToScore != test.considers {
				t.Errorf("it considers %d %% of the nodes, want %d", config.PercentageOfNodesToScore, test.considers)
			}
			pod := get[*appsv1.Deployment](t, all, "open-local-csi-controller").Spec.Template.Spec
			if args := container(t, pod, "csi").Args; slices.Contains(args, "--publish-capacity=kube-system/open-local-csi-controller") != test.heeds {
				t.Errorf("it is published otherwise: %q", args)
			}
		})
	}
	_, err := cluster{}.render(values{"scheduler": values{"mode": "none", "capacityTracking": false}})
	if err == nil || !strings.Contains(err.Error(), "nobody would know which node has room") {
		t.Errorf("without an extender and without capacity: %v", err)
	}
}

func TestEveryProgramIsToldItsPace(t *testing.T) {
	pace := func(more values) values {
		v := values{"kubeAPIQPS": 201, "kubeAPIBurst": 202, "workerThreads": 203, "timeout": "204s", "retryIntervalStart": "205ms", "retryIntervalMax": "206s"}
		maps.Copy(v, more)
		return v
	}
	all := install(t, values{"snapshots": values{"enabled": true}, "csiController": values{
		"capacityKubeAPIQPS": 301, "capacityKubeAPIBurst": 302, "provisioner": pace(nil), "resizer": pace(nil), "snapshotter": pace(nil),
	}})
	pod := get[*appsv1.Deployment](t, all, "open-local-csi-controller").Spec.Template.Spec
	every := []string{"--kube-api-qps=201", "--kube-api-burst=202", "--retry-interval-start=205ms", "--retry-interval-max=206s"}
	for program, told := range map[string][]string{
		"csi-provisioner": append(slices.Clone(every), "--worker-threads=203", "--timeout=204s"),
		"csi-resizer":     append(slices.Clone(every), "--workers=203", "--timeout=204s"),
		"csi-snapshotter": append(slices.Clone(every), "--worker-threads=203", "--timeout=204s"),
		"csi":             {"--publish-capacity-qps=301", "--publish-capacity-burst=302"},
	} {
		args := container(t, pod, program).Args
		for _, want := range told {
			if !slices.Contains(args, want) {
				t.Errorf("%s is not told %s: %q", program, want, args)
			}
		}
	}
}
