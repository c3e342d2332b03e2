package chart

import (
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"helm.sh/helm/v3/pkg/lint"
	"helm.sh/helm/v3/pkg/lint/support"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
)

func TestTheChartLintsWithoutAWord(t *testing.T) {
	linted := lint.All(chartDir, values{}, "kube-system", true)
	for _, message := range linted.Messages {
		// The only thing it may wish for.
		if message.Severity > support.InfoSev || !strings.Contains(message.Error(), "icon is recommended") {
			t.Error(message)
		}
	}
}

// snapshotKinds is what a cluster has that has snapshots.
var snapshotKinds = []string{"snapshot.storage.k8s.io/v1/VolumeSnapshotClass"}

// variants are values under which every object must still be one that Kubernetes knows.
var variants = map[string]values{
	"nothing said": {},
	"everything on": {
		"storageclass": values{
			"lvm_io": values{"enabled": true}, "device_ssd": values{"enabled": true}, "device_hdd": values{"enabled": true},
			"mountpoint_ssd": values{"enabled": true}, "mountpoint_hdd": values{"enabled": true}, "snapshot": values{"enabled": true},
		},
		"snapshots":    values{"enabled": true},
		"customLabels": values{"team": "storage"},
		"global":       values{"RegistryURL": "registry.example.com/mirror", "imagePullSecrets": []any{"pull"}, "YodaSchedulerSvcIP": "10.96.0.4"},
		"extender":     values{"hostNetwork": true, "strategy": "binpack", "nodeAntiAffinity": "MountPoint=5,LVM=3"},
		"controller":   values{"replicas": 2, "update_nls": "false"},
	},
	"as little as possible": {
		"storageclass":    values{"lvm": values{"enabled": false}, "lvm_xfs": values{"enabled": false}, "lvm_io": values{"enabled": false}},
		"nlsc":            values{"create": false},
		"certificates":    values{"mode": "existing"},
		"admissionPolicy": values{"enabled": false},
		"agent":           values{"nodeSelector": nil, "tolerations": nil, "priorityClassName": ""},
	},
	"another name, driver and namespace": {
		"name": "yoda", "driver": "yodaplugin.csi.alibabacloud.com", "namespace": "storage",
	},
	"a second scheduler": {"scheduler": values{"mode": "secondary"}},
	"no extender":        {"scheduler": values{"mode": "none"}},
	"cert-manager":       {"certificates": values{"mode": "cert-manager"}},
	"an issuer of one's own": {"certificates": values{
		"mode": "cert-manager", "certManager": values{"issuerRef": values{"name": "corp", "kind": "ClusterIssuer", "group": "cert-manager.io"}},
	}},
}

func TestEveryObjectIsKnownFieldByField(t *testing.T) {
	for name, vals := range variants {
		t.Run(name, func(t *testing.T) {
			all := cluster{kinds: snapshotKinds}.install(t, vals)
			if len(all) < 20 {
				t.Errorf("there are only %d objects", len(all))
			}
			seen := map[string]bool{}
			for _, o := range all {
				key := strings.Join([]string{o.GetObjectKind().GroupVersionKind().Kind, o.GetNamespace(), o.GetName()}, " ")
				if seen[key] {
					t.Errorf("there are two of %s", key)
				}
				seen[key] = true
				if o.GetLabels()["app.kubernetes.io/name"] == "" {
					t.Errorf("%s does not say what it belongs to", key)
				}
			}
		})
	}
}

func TestSelectorsSelectTheirPodsAndNoOthers(t *testing.T) {
	all := install(t, nil)
	selectors := map[string]map[string]string{}
	pods := map[string]map[string]string{}
	for _, o := range all {
		switch w := o.(type) {
		case *appsv1.Deployment:
			selectors["Deployment "+w.Name], pods["Deployment "+w.Name] = w.Spec.Selector.MatchLabels, w.Spec.Template.Labels
		case *appsv1.DaemonSet:
			selectors["DaemonSet "+w.Name], pods["DaemonSet "+w.Name] = w.Spec.Selector.MatchLabels, w.Spec.Template.Labels
		}
	}
	if len(selectors) != 4 {
		t.Fatalf("there are %d workloads, want 4", len(selectors))
	}
	for owner, selector := range selectors {
		for pod, labels := range pods {
			if selects(selector, labels) != (owner == pod) {
				t.Errorf("%s selects the pods of %s: %v", owner, pod, owner != pod)
			}
		}
	}
	service := get[*corev1.Service](t, all, "open-local-scheduler-extender")
	if !selects(service.Spec.Selector, pods["Deployment open-local-scheduler-extender"]) {
		t.Error("the Service of the extender does not select its pods")
	}
	// They may never change: a release is upgraded in place.
	want := map[string]string{"app.kubernetes.io/component": "open-local-agent"}
	if diff := cmp.Diff(want, selectors["DaemonSet open-local-agent"]); diff != "" {
		t.Errorf("selector of the agent (-want +got):\n%s", diff)
	}
}

func selects(selector, labels map[string]string) bool {
	for key, value := range selector {
		if labels[key] != value {
			return false
		}
	}
	return true
}

func TestNamesOfTheContractAreThere(t *testing.T) {
	all := install(t, nil)
	for what, got := range map[string][2][]string{
		"StorageClasses": {names[*storagev1.StorageClass](all), {
			"open-local-device-hdd", "open-local-device-ssd", "open-local-lvm", "open-local-lvm-io-throttling",
			"open-local-lvm-xfs", "open-local-mountpoint-hdd", "open-local-mountpoint-ssd",
		}},
		"CSIDrivers":  {names[*storagev1.CSIDriver](all), {"local.csi.aliyun.com"}},
		"DaemonSets":  {names[*appsv1.DaemonSet](all), {"open-local-agent"}},
		"Deployments": {names[*appsv1.Deployment](all), {"open-local-controller", "open-local-csi-controller", "open-local-scheduler-extender"}},
		"Services":    {names[*corev1.Service](all), {"open-local-scheduler-extender"}},
		"NLSC":        {names[*v1alpha1.NodeLocalStorageInitConfig](all), {"open-local"}},
	} {
		if diff := cmp.Diff(got[1], got[0]); diff != "" {
			t.Errorf("%s (-want +got):\n%s", what, diff)
		}
	}
	throttled := get[*storagev1.StorageClass](t, all, "open-local-lvm-io-throttling")
	want := map[string]string{"csi.storage.k8s.io/fstype": "ext4", "volumeType": "LVM", "bps": "1048576", "iops": "1024"}
	if diff := cmp.Diff(want, throttled.Parameters); diff != "" {
		t.Errorf("parameters of the throttled class (-want +got):\n%s", diff)
	}
	service := get[*corev1.Service](t, all, "open-local-scheduler-extender")
	if service.Namespace != "kube-system" || service.Spec.Ports[0].Port != 23000 {
		t.Errorf("the extender answers in namespace %s on port %d", service.Namespace, service.Spec.Ports[0].Port)
	}
}

func TestClassesCanBeLeftOut(t *testing.T) {
	off := values{"enabled": false}
	want := []string{"open-local-lvm", "open-local-lvm-io-throttling", "open-local-lvm-xfs"}
	all := install(t, values{"storageclass": values{"device_ssd": off, "device_hdd": off, "mountpoint_ssd": off, "mountpoint_hdd": off}})
	if diff := cmp.Diff(want, names[*storagev1.StorageClass](all)); diff != "" {
		t.Errorf("StorageClasses (-want +got):\n%s", diff)
	}
}

func TestSnapshotsAreThereWhereTheirKindsAre(t *testing.T) {
	switched := func(enabled any) values { return values{"snapshots": values{"enabled": enabled}} }
	for name, test := range map[string]struct {
		kinds []string
		vals  values
		there bool
	}{
		"a cluster without the kinds":                  {nil, nil, false},
		"a cluster with them":                          {snapshotKinds, nil, true},
		"a cluster that has them, and does not want":   {snapshotKinds, switched(false), false},
		"a chart that is rendered without a cluster":   {nil, switched(true), true},
		"nobody said anything but what is said anyway": {nil, switched("auto"), false},
	} {
		t.Run(name, func(t *testing.T) {
			all := cluster{kinds: test.kinds}.install(t, test.vals)
			if there := len(names[*unstructured.Unstructured](all)) > 0; there != test.there {
				t.Errorf("there is a VolumeSnapshotClass: %v", there)
			}
			pod := get[*appsv1.Deployment](t, all, "open-local-csi-controller").Spec.Template.Spec
			sidecar := slices.ContainsFunc(pod.Containers, func(c corev1.Container) bool { return c.Name == "csi-snapshotter" })
			if sidecar != test.there {
				t.Errorf("csi-snapshotter runs: %v", sidecar)
			}
		})
	}
}

func TestTheSnapshotClassSaysWhatItsContractHas(t *testing.T) {
	class := get[*unstructured.Unstructured](t, cluster{kinds: snapshotKinds}.install(t, nil), "open-local-lvm")
	want := map[string]any{
		"csi.aliyun.com/readonly":                     "false",
		"csi.aliyun.com/snapshot-initial-size":        "4Gi",
		"csi.aliyun.com/snapshot-expansion-size":      "1Gi",
		"csi.aliyun.com/snapshot-expansion-threshold": "50%",
	}
	if diff := cmp.Diff(want, class.Object["parameters"]); diff != "" {
		t.Errorf("parameters of the VolumeSnapshotClass (-want +got):\n%s", diff)
	}
	if driver := class.Object["driver"]; driver != "local.csi.aliyun.com" {
		t.Errorf("its driver is %v", driver)
	}
}

func TestTheNamespaceIsThatOfTheValuesOrElseOfTheRelease(t *testing.T) {
	for name, test := range map[string]struct {
		vals values
		want string
	}{
		"kube-system unless told otherwise": {nil, "kube-system"},
		"the one that was told":             {values{"namespace": "storage"}, "storage"},
		"that of the release":               {values{"namespace": ""}, "elsewhere"},
	} {
		t.Run(name, func(t *testing.T) {
			all := cluster{namespace: "elsewhere"}.install(t, test.vals)
			for _, o := range all {
				if ns := o.GetNamespace(); ns != "" && ns != test.want {
					t.Errorf("%T %s is in namespace %s, want %s", o, o.GetName(), ns, test.want)
				}
			}
		})
	}
}

func TestTheKubeletDirectoryReachesEveryPlace(t *testing.T) {
	const dir = "/var/snap/kubelet"
	agent := get[*appsv1.DaemonSet](t, install(t, values{"agent": values{"kubelet_dir": dir}}), "open-local-agent")
	csi := container(t, agent.Spec.Template.Spec, "csi")
	if !slices.Contains(csi.Args, "--kubelet-dir="+dir) {
		t.Errorf("the node plugin is told %q", csi.Args)
	}
	mount := csi.VolumeMounts[slices.IndexFunc(csi.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "kubelet" })]
	if mount.MountPath != dir || *mount.MountPropagation != corev1.MountPropagationBidirectional {
		t.Errorf("the kubelet directory is mounted as %+v", mount)
	}
	volumes := agent.Spec.Template.Spec.Volumes
	volume := volumes[slices.IndexFunc(volumes, func(v corev1.Volume) bool { return v.Name == "kubelet" })]
	if volume.HostPath.Path != dir {
		t.Errorf("the kubelet directory is taken from %s", volume.HostPath.Path)
	}
}

func TestImagesComeFromTheRegistryThatIsNamed(t *testing.T) {
	all := cluster{kinds: snapshotKinds}.install(t, values{
		"global": values{"RegistryURL": "registry.example.com/mirror"},
		"images": values{"local": values{"tag": "v9"}},
	})
	var got []string
	for _, c := range get[*appsv1.Deployment](t, all, "open-local-csi-controller").Spec.Template.Spec.Containers {
		got = append(got, c.Image)
	}
	want := []string{
		"registry.example.com/mirror/openlocal/open-local:v9",
		"registry.example.com/mirror/sig-storage/csi-provisioner:v6.3.0",
		"registry.example.com/mirror/sig-storage/csi-resizer:v2.3.0",
		"registry.example.com/mirror/sig-storage/csi-snapshotter:v8.7.0",
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("images (-want +got):\n%s", diff)
	}
}

func TestOnlyTheAgentTouchesTheHost(t *testing.T) {
	for _, o := range install(t, nil) {
		deployment, ok := o.(*appsv1.Deployment)
		if !ok {
			continue
		}
		pod := deployment.Spec.Template.Spec
		if pod.HostNetwork || pod.HostIPC || pod.HostPID || !*pod.SecurityContext.RunAsNonRoot {
			t.Errorf("pods of %s may touch their host: %+v", deployment.Name, pod.SecurityContext)
		}
		for _, v := range pod.Volumes {
			if v.HostPath != nil {
				t.Errorf("pods of %s see %s of their host", deployment.Name, v.HostPath.Path)
			}
		}
		for _, c := range pod.Containers {
			s := c.SecurityContext
			if *s.AllowPrivilegeEscalation || !*s.ReadOnlyRootFilesystem || s.Capabilities.Drop[0] != "ALL" {
				t.Errorf("container %s of %s may do more than it needs: %+v", c.Name, deployment.Name, s)
			}
		}
	}
}

func TestMistakesInValuesAreRefused(t *testing.T) {
	for name, vals := range map[string]values{
		"anti-affinity to what is no type":   {"extender": values{"nodeAntiAffinity": "lvm=3"}},
		"a strategy that does not exist":     {"extender": values{"strategy": "random"}},
		"a mode of certificates unknown":     {"certificates": values{"mode": "vault"}},
		"a misspelt class":                   {"storageclass": values{"lmv": values{"enabled": true}}},
		"a kubelet directory that is not":    {"agent": values{"kubelet_dir": "kubelet"}},
		"a name that no object can have":     {"name": "Open_Local"},
		"a device that is not a path":        {"agent": values{"device": "vdc"}},
		"a port that does not exist":         {"agent": values{"port": 70000}},
		"snapshots perhaps":                  {"snapshots": values{"enabled": "perhaps"}},
		"a threshold that is no share":       {"storageclass": values{"snapshot": values{"expansionThreshold": "half"}}},
		"more than two states of update_nls": {"controller": values{"update_nls": "maybe"}},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := (cluster{}).render(vals); err == nil {
				t.Error("it was rendered")
			}
		})
	}
}

func TestExamplesAreKnownFieldByField(t *testing.T) {
	files, err := filepath.Glob("../../example/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	more, err := filepath.Glob("../../example/*/*.yaml")
	if err != nil {
		t.Fatal(err)
	}
	files = append(files, more...)
	if len(files) < 4 {
		t.Fatalf("there are only %d examples", len(files))
	}
	served := names[*storagev1.StorageClass](install(t, nil))
	for _, file := range files {
		t.Run(file, func(t *testing.T) {
			for _, claim := range claims(decodeFile(t, file)) {
				if !slices.Contains(served, *claim.StorageClassName) {
					t.Errorf("a claim wants class %s; by default there are %q", *claim.StorageClassName, served)
				}
			}
		})
	}
}

// claims returns what objects ask for, as claims or for claims to be made.
func claims(all objects) []corev1.PersistentVolumeClaimSpec {
	var found []corev1.PersistentVolumeClaimSpec
	for _, o := range all {
		switch o := o.(type) {
		case *corev1.PersistentVolumeClaim:
			found = append(found, o.Spec)
		case *appsv1.StatefulSet:
			for _, template := range o.Spec.VolumeClaimTemplates {
				found = append(found, template.Spec)
			}
		case *corev1.Pod:
			for _, v := range o.Spec.Volumes {
				if v.Ephemeral != nil {
					found = append(found, v.Ephemeral.VolumeClaimTemplate.Spec)
				}
			}
		}
	}
	return found
}

func container(t *testing.T, pod corev1.PodSpec, name string) corev1.Container {
	t.Helper()
	for _, c := range pod.Containers {
		if c.Name == name {
			return c
		}
	}
	t.Fatalf("there is no container %q", name)
	return corev1.Container{}
}
