package volume

import (
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const uid = "0f6d4a43-2f39-4a0c-8f5f-6c6d1a1f0c11"

func ofPod(namespace, name, uid string) map[string]string {
	return map[string]string{
		"csi.storage.k8s.io/pod.namespace": namespace, "csi.storage.k8s.io/pod.name": name, "csi.storage.k8s.io/pod.uid": uid,
		"vgName": "pool",
	}
}

func TestThePodOfAnInlineVolume(t *testing.T) {
	for name, test := range map[string]struct {
		attributes map[string]string
		want       Pod
		reason     string
	}{
		"a pod":                       {attributes: ofPod("default", "web-0", uid), want: Pod{"default", "web-0", uid}},
		"a static pod":                {attributes: ofPod("kube-system", "etcd.n1", strings.Repeat("0f", 16)), want: Pod{"kube-system", "etcd.n1", strings.Repeat("0f", 16)}},
		"nobody":                      {attributes: map[string]string{"vgName": "pool"}, reason: "podInfoOnMount"},
		"a pod without a UID":         {attributes: ofPod("default", "web-0", ""), reason: `"csi.storage.k8s.io/pod.uid"`},
		"a name that leads elsewhere": {attributes: ofPod("default", "../web", uid), reason: `"../web" names nothing`},
		"a UID that leads elsewhere":  {attributes: ofPod("default", "web", "../../"+uid), reason: "names nothing"},
		"a namespace that is an option": {
			attributes: ofPod("--config", "web", uid), reason: `"--config" names nothing`,
		},
	} {
		t.Run(name, func(t *testing.T) {
			got, err := ParsePod(test.attributes)
			if test.reason != "" {
				if !errors.Is(err, ErrInvalid) || !strings.Contains(err.Error(), test.reason) {
					t.Fatalf("got %v, want %s", err, test.reason)
				}
				return
			}
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(test.want, got); diff != "" {
				t.Errorf("pod (-want +got):\n%s", diff)
			}
			if read, ok := PodOf([]string{"other", got.Tag()}); !ok || read != got {
				t.Errorf("its tag %s reads as %v", got.Tag(), read)
			}
		})
	}
}

func TestOnlyTheKubeletsOwnTargetPathWillDo(t *testing.T) {
	const dir = "/var/lib/kubelet"
	id := ForInline(uid, "scratch")
	if target := InlineTarget(dir, uid, "scratch"); target != "/var/lib/kubelet/pods/"+uid+"/volumes/kubernetes.io~csi/scratch/mount" || !TargetIsOf(dir, target, id) {
		t.Errorf("the kubelet's own path %s will not do", target)
	}
	for _, target := range []string{
		"", "/", "mount", "/etc", "/mnt/pods/" + uid + "/volumes/kubernetes.io~csi/scratch/mount",
		"/var/lib/kubelet/pods/" + uid + "/volumes/kubernetes.io~csi/other/mount",
		"/var/lib/kubelet/pods/" + uid + "/volumes/kubernetes.io~csi/scratch/mount/..",
		"/var/lib/kubelet/pods/" + uid + "/volumes/kubernetes.io~csi/scratch/../../../../../etc/mount",
		"/var/lib/kubelet/pods/" + uid + "/volumes/kubernetes.io~empty-dir/scratch/mount",
		"/var/lib/kubelet/pods/../pods/" + uid + "/volumes/kubernetes.io~csi/scratch/mount",
		"/var/lib/kubelet/pods/another/volumes/kubernetes.io~csi/scratch/mount",
		"/var/lib/kubelet/pods/" + uid + "/volumes/kubernetes.io~csi/scratch",
	} {
		if TargetIsOf(dir, target, id) {
			t.Errorf("%s will do", target)
		}
	}
}

func TestOnlyTheKubeletsHandlesAreInline(t *testing.T) {
	id := ForInline(uid, "scratch")
	for handle, want := range map[string]bool{
		id: true, "local-" + uid: false, "snap-" + uid: false, id[:67]: false, id + "0": false, strings.ToUpper(id): false,
		"pool/" + id: false, id + "\n": false, "": false,
	} {
		if IsInline(handle) != want {
			t.Errorf("%q: inline %t, want %t", handle, !want, want)
		}
	}
}
