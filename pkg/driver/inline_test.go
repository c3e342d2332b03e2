package driver_test

import (
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/open-local/open-local/pkg/volume"
)

// A scratch is an inline volume of a pod, as its kubelet knows it.
type scratch struct {
	pod     volume.Pod
	name    string // of the volume in the pod
	kubelet string // its directory
}

// scratchOf returns the volume "scratch" of a pod.
func scratchOf(kubelet, name, uid string) scratch {
	return scratch{pod: volume.Pod{Namespace: "default", Name: name, UID: uid}, name: "scratch", kubelet: kubelet}
}

func (s scratch) id() string { return volume.ForInline(s.pod.UID, s.name) }

func (s scratch) target() string { return volume.InlineTarget(s.kubelet, s.pod.UID, s.name) }

// says is what the kubelet adds to the attributes of the pod.
func (s scratch) says() map[string]string {
	return map[string]string{
		"csi.storage.k8s.io/ephemeral":           "true",
		"csi.storage.k8s.io/pod.namespace":       s.pod.Namespace,
		"csi.storage.k8s.io/pod.name":            s.pod.Name,
		"csi.storage.k8s.io/pod.uid":             s.pod.UID,
		"csi.storage.k8s.io/serviceAccount.name": "default",
	}
}

// publish is how the kubelet publishes the volume with those attributes of the pod. It
// makes the directory that the target is in.
func (s scratch) publish(t testing.TB, fsType string, attributes map[string]string) *csi.NodePublishVolumeRequest {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(s.target()), 0o750); err != nil {
		t.Fatal(err)
	}
	said := map[string]string{}
	maps.Copy(said, attributes)
	maps.Copy(said, s.says()) // the kubelet has the last word
	return &csi.NodePublishVolumeRequest{VolumeId: s.id(), TargetPath: s.target(), VolumeCapability: capability(fsType), VolumeContext: said}
}

func (s scratch) unpublish() *csi.NodeUnpublishVolumeRequest {
	return &csi.NodeUnpublishVolumeRequest{VolumeId: s.id(), TargetPath: s.target()}
}

// An attempt is a pod that asks for what it must not have, or somebody who speaks to the
// node in the kubelet's place.
type attempt struct {
	attributes map[string]string // of the pod, in place of vgName and size
	change     func(r *csi.NodePublishVolumeRequest)
}

// asking is an attempt by the attributes of a pod that names a good group.
func asking(group string, more ...string) attempt {
	attributes := map[string]string{"vgName": group}
	for i := 0; i < len(more); i += 2 {
		attributes[more[i]] = more[i+1]
	}
	return attempt{attributes: attributes}
}

// attempts returns attempts at a node that manages the group pool, where the group
// foreign exists and is not managed, and where others have the volumes claim and
// inline.
func attempts(pool, foreign, claim string, other scratch) map[string]attempt {
	all := map[string]attempt{
		"no group":             {attributes: map[string]string{}},
		"a group not managed":  asking(foreign),
		"a group that is none": asking("nowhere"),
		"a size beyond the VG": asking(pool, "size", "1Ei"),
		"a size of 19 digits":  asking(pool, "size", "9223372036854775807"),
		"a key of a claim":     asking(pool, "volumeType", "LVM"),
		"a path for a device":  asking(pool, "Device", "/dev/sda"),
		"a path to mount":      asking(pool, "MountPoint", "/etc"),
		"options of mount":     asking(pool, "mountOptions", "suid,dev"),
		"options of mkfs":      asking(pool, "mkfsOptions", "-F -d /etc"),
		"a snapshot of others": asking(pool, "csi.aliyun.com/snapshot", "snap-"+claim),
		"a volume of others":   asking(pool, "volumeHandle", claim),
		"tags":                 asking(pool, "tags", "open-local.id="+claim),
		"a key in other case":  asking(pool, "VGNAME", "x"),
		"a key of a snapshot":  asking(pool, "csi.aliyun.com/readonly", "true"),
	}
	for _, group := range []string{
		"", "-y", "--config", "--config=devices{dir=/tmp}", "..", ".", pool + "/" + claim, pool + "/../" + foreign, "/dev/" + pool, "../../etc",
		pool + ";reboot", pool + "|sh", pool + "&", "$(reboot)", "`reboot`", pool + " " + foreign, pool + "\n" + foreign, pool + "\x00", "@open-local", "*",
		pool + "'", pool + `"`, pool + `" || vg_name!="`, "{" + pool + "," + foreign + "}", "пул", strings.Repeat("a", 128), " " + pool, pool + " ", "%s",
	} {
		all["the group "+group] = asking(group)
	}
	for _, size := range []string{
		"", "0", "-1", "-1Gi", "1500m", "1e30", "1e-3", "9999999999999999999", "99999999999999999999999Gi", "0x10", "100%FREE", "100%", "1Gi;reboot", "1Gi --config",
		"--size", "-l", "$(reboot)", "1Gi\n", "NaN", "Inf", "+", "1,5Gi",
	} {
		all["the size "+size] = asking(pool, "size", size)
	}
	for _, layout := range []string{"", "thin", "raid0", "mirror", "--type=thin", "striping -i 2", "linear;reboot", "cache", "STRIPING"} {
		all["the layout "+layout] = asking(pool, "lvmType", layout)
	}
	for _, limit := range []string{"", "0", "-1", "max", "1.5", "1;2", "18446744073709551616", "rbps=1", "1\n8:0 rbps=1", "$(id)", "--"} {
		all["the limit bps "+limit] = asking(pool, "bps", limit)
		all["the limit iops "+limit] = asking(pool, "iops", limit)
	}
	for _, fsType := range []string{"vfat", "ntfs", "none", "tmpfs", "overlay", "ext4 -o suid", "ext4,suid", "-o", "--bind", "../ext4", "ext4\n", "ext4;reboot", "EXT4", "auto", "swap"} {
		all["the file system "+fsType] = attempt{asking(pool).attributes, func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability.GetMount().FsType = fsType }}
	}
	for name, change := range impostures(claim, other) {
		all[name] = attempt{asking(pool).attributes, change}
	}
	return all
}

// impostures are requests that no kubelet sends, and what would reach the node if
// somebody had switched off that the kubelet says whose pod it is.
func impostures(claim string, other scratch) map[string]func(r *csi.NodePublishVolumeRequest) {
	all := map[string]func(r *csi.NodePublishVolumeRequest){
		"the volume of a claim":             func(r *csi.NodePublishVolumeRequest) { r.VolumeId = claim },
		"the volume of another pod":         func(r *csi.NodePublishVolumeRequest) { r.VolumeId = other.id() },
		"the place of another pod":          func(r *csi.NodePublishVolumeRequest) { r.TargetPath = other.target() },
		"another pod's volume and place":    func(r *csi.NodePublishVolumeRequest) { r.VolumeId, r.TargetPath = other.id(), other.target() },
		"another pod in all but the handle": func(r *csi.NodePublishVolumeRequest) { maps.Copy(r.VolumeContext, other.says()) },
		"a device":                          func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability = capability("block") },
		"no capability":                     func(r *csi.NodePublishVolumeRequest) { r.VolumeCapability = nil },
		"many nodes": func(r *csi.NodePublishVolumeRequest) {
			r.VolumeCapability.AccessMode.Mode = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
		},
		"a volume of one's own that is said to be no inline volume": func(r *csi.NodePublishVolumeRequest) {
			r.VolumeContext["csi.storage.k8s.io/ephemeral"] = "false"
		},
		"another pod's volume that is said to be no inline volume": func(r *csi.NodePublishVolumeRequest) {
			r.VolumeId, r.StagingTargetPath = other.id(), filepath.Dir(other.target())
			r.VolumeContext = map[string]string{"volumeType": "LVM", "vgName": r.VolumeContext["vgName"]}
		},
		"nobody's volume": func(r *csi.NodePublishVolumeRequest) {
			for key := range r.VolumeContext {
				if strings.HasPrefix(key, "csi.storage.k8s.io/pod") {
					delete(r.VolumeContext, key)
				}
			}
		},
	}
	for _, id := range []string{"", "..", ".", "/etc/passwd", "../" + claim, "pool/" + claim, "csi-", "csi-" + strings.Repeat("0", 64), "csi-" + strings.Repeat("Z", 64), "-y", "--config", "$(reboot)", claim + ";reboot", "a b", "\x00", strings.Repeat("a", 200)} {
		all["the handle "+id] = func(r *csi.NodePublishVolumeRequest) { r.VolumeId = id }
	}
	for _, target := range []string{
		"", "/", "/etc", "etc", "/dev", "/var/lib/kubelet", "/var/lib/kubelet/pods/../../../../etc", "/tmp/x/volumes/kubernetes.io~csi/scratch/mount", "-o", "--bind", "/mnt\n",
	} {
		all["the target "+target] = func(r *csi.NodePublishVolumeRequest) { r.TargetPath = target }
	}
	for _, tail := range []string{"/..", "/", "/../../../../../../../etc", "/sub", "x"} {
		all["the target with "+tail] = func(r *csi.NodePublishVolumeRequest) { r.TargetPath += tail }
	}
	for _, uid := range []string{"", "..", "../../etc", "-y", "$(reboot)", "a/b", "a b", "a\nb"} {
		all["the pod's UID "+uid] = func(r *csi.NodePublishVolumeRequest) { r.VolumeContext["csi.storage.k8s.io/pod.uid"] = uid }
		all["the pod's name "+uid] = func(r *csi.NodePublishVolumeRequest) { r.VolumeContext["csi.storage.k8s.io/pod.name"] = uid }
	}
	return all
}

// refused are the codes of a request that is wrong, or that this node cannot serve.
var refused = []codes.Code{codes.InvalidArgument, codes.FailedPrecondition, codes.OutOfRange, codes.ResourceExhausted}

// wantAllRefused makes every attempt, in the place of the pod's own volume. None may
// succeed, start a process or change what see sees of the node.
func wantAllRefused(t *testing.T, node csi.NodeClient, own scratch, all map[string]attempt, see func() any, processes func() map[string]int) {
	t.Helper()
	before := see()
	for _, name := range slices.Sorted(maps.Keys(all)) {
		processes()
		req := own.publish(t, "ext4", all[name].attributes)
		if all[name].change != nil {
			all[name].change(req)
		}
		_, err := node.NodePublishVolume(t.Context(), req)
		if !slices.Contains(refused, status.Code(err)) {
			t.Errorf("%q: got %v", name, err)
		}
		if diff := cmp.Diff(map[string]int{}, processes()); diff != "" {
			t.Errorf("%q: processes (-want +got):\n%s", name, diff)
		}
		if diff := cmp.Diff(before, see()); diff != "" {
			t.Errorf("%q: the node (-before +after):\n%s", name, diff)
		}
	}
	t.Logf("%d attempts, none succeeded", len(all))
}
