package guest

import (
	"encoding/json"
	"fmt"
	"strings"

	"github.com/open-local/open-local/hack/lab/network"
)

// Where a node keeps the configuration that it makes at boot.
const (
	etc              = labDir + "/etc"
	containerdSocket = "/run/containerd/containerd.sock"
	pauseImage       = "registry.k8s.io/pause:3.10"
)

// files returns the content of the node's configuration files by path.
func (n Node) files() (map[string]string, error) {
	kubelet, err := json.MarshalIndent(n.kubeletConfig(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("rendering the kubelet's configuration: %w", err)
	}
	cni, err := json.MarshalIndent(n.cniConfig(), "", "  ")
	if err != nil {
		return nil, fmt.Errorf("rendering the network configuration: %w", err)
	}
	return map[string]string{
		etc + "/kubelet.json":        string(kubelet),
		etc + "/kubeconfig":          n.Kubeconfig,
		etc + "/ca.crt":              n.CA,
		etc + "/kubelet.crt":         n.Cert,
		etc + "/kubelet.key":         n.Key,
		etc + "/cni/10-lab.conflist": string(cni),
		etc + "/containerd.toml":     containerdConfig,
		etc + "/resolv.conf":         "nameserver " + network.DNS + "\n",
		"/etc/resolv.conf":           "nameserver " + network.DNS + "\n",
	}, nil
}

type object = map[string]any

func (n Node) kubeletConfig() object {
	return object{
		"apiVersion": "kubelet.config.k8s.io/v1beta1",
		"kind":       "KubeletConfiguration",
		"authentication": object{
			"anonymous": object{"enabled": false},
			"webhook":   object{"enabled": false},
			"x509":      object{"clientCAFile": etc + "/ca.crt"},
		},
		"authorization":     object{"mode": "AlwaysAllow"}, // of those who authenticated: the API server
		"tlsCertFile":       etc + "/kubelet.crt",
		"tlsPrivateKeyFile": etc + "/kubelet.key",
		"clusterDNS":        []string{network.DNS},
		"clusterDomain":     network.Domain,
		"resolvConf":        etc + "/resolv.conf",

		"containerRuntimeEndpoint": "unix://" + containerdSocket,
		"cgroupDriver":             "cgroupfs",
		"enforceNodeAllocatable":   []string{},
		"failSwapOn":               false,
		"serializeImagePulls":      false,
		// How long a volume that grew waits for its file system at most, instead of a minute.
		"syncFrequency": "10s",
		// A lab's images cannot be pulled again, and its disks are small.
		"imageGCHighThresholdPercent": 100,
		"evictionHard":                object{"memory.available": "0%", "nodefs.available": "0%", "imagefs.available": "0%"},
	}
}

func (n Node) cniConfig() object {
	return object{
		"cniVersion": "1.0.0",
		"name":       "lab",
		"plugins": []object{{
			"type": "ptp",
			"ipam": object{
				"type": "host-local", "subnet": n.PodCIDR, "dataDir": "/run/cni-ipam",
				"routes": []object{{"dst": "0.0.0.0/0"}},
			},
		}},
	}
}

// containerdConfig leaves out plugins that look for things a node has not, and asks every
// container for its processor time once a minute. Nobody in a lab wants to know, and the
// default, every second, is half of what an idle node does. Containers are run by crun,
// which takes half of the time of runc: a pod takes twelve processes of it.
var containerdConfig = strings.NewReplacer("SOCKET", containerdSocket, "PAUSE", pauseImage, "ETC", etc).Replace(`version = 3
root = "/var/lib/containerd"
state = "/run/containerd"
disabled_plugins = [
  'io.containerd.snapshotter.v1.blockfile', 'io.containerd.snapshotter.v1.btrfs', 'io.containerd.snapshotter.v1.devmapper',
  'io.containerd.snapshotter.v1.erofs', 'io.containerd.differ.v1.erofs', 'io.containerd.snapshotter.v1.zfs',
  'io.containerd.nri.v1.nri', 'io.containerd.tracing.processor.v1.otlp', 'io.containerd.internal.v1.tracing',
]
[grpc]
  address = "SOCKET"
[plugins.'io.containerd.cri.v1.images']
  snapshotter = "overlayfs"
  [plugins.'io.containerd.cri.v1.images'.pinned_images]
    sandbox = "PAUSE"
[plugins.'io.containerd.cri.v1.runtime']
  disable_apparmor = true
  stats_collect_period = "1m"
  [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc]
    runtime_type = "io.containerd.runc.v2"
    [plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.runc.options]
      BinaryName = "/usr/bin/crun"
      SystemdCgroup = false
  [plugins.'io.containerd.cri.v1.runtime'.cni]
    use_internal_loopback = true
    bin_dirs = ["/usr/lib/cni"]
    conf_dir = "ETC/cni"
`)

// cpuInfo adds a clock speed to what a User-Mode Linux kernel says of its
// processor: cadvisor, in the kubelet, does not start without one.
func cpuInfo(text string) string {
	var out strings.Builder
	for line := range strings.Lines(text) {
		if strings.TrimSpace(line) == "" || strings.HasPrefix(line, "cpu MHz") {
			continue
		}
		out.WriteString(line)
	}
	out.WriteString("cpu MHz\t\t: 2000.000\n\n")
	return out.String()
}
