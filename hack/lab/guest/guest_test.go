package guest

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/open-local/open-local/hack/lab/wire"
)

func TestModulesAreInsertedAfterWhatTheyNeed(t *testing.T) {
	deps, err := parseDependencies(strings.NewReader(`kernel/drivers/md/dm-mod.ko:
kernel/drivers/md/dm-bufio.ko: kernel/drivers/md/dm-mod.ko
kernel/drivers/md/dm-thin-pool.ko: kernel/lib/persistent.ko kernel/drivers/md/dm-bufio.ko kernel/drivers/md/dm-mod.ko
`))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"kernel/drivers/md/dm-mod.ko", "kernel/drivers/md/dm-bufio.ko", "kernel/lib/persistent.ko", "kernel/drivers/md/dm-thin-pool.ko"}
	if diff := cmp.Diff(want, deps["dm_thin_pool"]); diff != "" {
		t.Errorf("order (-want +got):\n%s", diff)
	}
}

func TestAnUnknownModuleIsNamed(t *testing.T) {
	l := &loader{dir: "/lib/modules/6.1", deps: dependencies{}, done: map[string]bool{}}
	err := l.load("dm-none", "")
	if err == nil || !strings.Contains(err.Error(), "module dm-none: the kernel has none of that name in /lib/modules/6.1") {
		t.Errorf("got %v", err)
	}
}

func TestCPUInfoHasAClockSpeedAndEndsABlock(t *testing.T) {
	got := cpuInfo("processor\t: 0\nmodel name\t: UML\nbogomips\t: 9000.00\n\n")
	want := "processor\t: 0\nmodel name\t: UML\nbogomips\t: 9000.00\ncpu MHz\t\t: 2000.000\n\n"
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("cpuinfo (-want +got):\n%s", diff)
	}
}

func TestANodesFilesSayWhatTheNodeIs(t *testing.T) {
	files, err := Node{IP: "10.99.0.11", PodCIDR: "10.244.1.0/24", Kubeconfig: "kubeconfig", CA: "ca", Cert: "cert", Key: "key"}.files()
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{
		etc + "/kubeconfig":          "kubeconfig",
		etc + "/kubelet.key":         "key",
		etc + "/cni/10-lab.conflist": `"subnet": "10.244.1.0/24"`,
		etc + "/kubelet.json":        `"clusterDNS": [` + "\n    \"10.100.0.10\"",
		etc + "/containerd.toml":     `sandbox = "registry.k8s.io/pause:3.10"`,
		"/etc/resolv.conf":           "nameserver 10.100.0.10",
	} {
		if !strings.Contains(files[path], want) {
			t.Errorf("%s lacks %q:\n%s", path, want, files[path])
		}
	}
	for path, text := range files {
		if strings.HasSuffix(path, ".json") && !json.Valid([]byte(text)) {
			t.Errorf("%s is not JSON:\n%s", path, text)
		}
		for _, placeholder := range []string{"SOCKET", "PAUSE", "ETC/"} {
			if strings.Contains(text, placeholder) {
				t.Errorf("%s still has %s in it", path, placeholder)
			}
		}
	}
}

func TestAKubeletServesOnlyTheAPIServer(t *testing.T) {
	config := Node{}.kubeletConfig()
	want := object{
		"anonymous": object{"enabled": false}, "webhook": object{"enabled": false},
		"x509": object{"clientCAFile": etc + "/ca.crt"},
	}
	if diff := cmp.Diff(any(want), config["authentication"]); diff != "" {
		t.Errorf("authentication (-want +got):\n%s", diff)
	}
}

func TestAConfigurationIsReadAsItWasWritten(t *testing.T) {
	want := Config{
		Hostname: "n1", DataDisk: "/dev/ubda", Disks: 2, SCSI: 1, SCSISizeMB: 64,
		Shares: []Share{{Path: "/a", Writable: true}, {Path: "/b"}},
		Job:    &wire.Command{Argv: []string{"true"}, Dir: "/"},
		Node:   &Node{IP: "10.99.0.11", Token: "secret"},
	}
	file := filepath.Join(t.TempDir(), "config.json")
	if err := want.Write(file); err != nil {
		t.Fatal(err)
	}
	got, err := ReadConfig(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
	info, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	if info.Mode().Perm() != 0o600 {
		t.Errorf("a file with tokens has mode %s", info.Mode().Perm())
	}
}

func TestTheEnvironmentListsTheDisks(t *testing.T) {
	got := environment(Config{Hostname: "vm", Disks: 2})
	for _, want := range []string{"LAB_DISKS=/dev/ubdb,/dev/ubdc", "LAB=vm", "DM_DISABLE_UDEV=1"} {
		if !strings.Contains(strings.Join(got, "\n"), want) {
			t.Errorf("%v lacks %s", got, want)
		}
	}
}

func TestTheTerminalsThatNobodyOpensAreRemoved(t *testing.T) {
	dev := t.TempDir()
	for _, name := range []string{"tty", "tty0", "tty63", "ttya0", "ptyzf", "ptmx", "ttyS0", "ttyS1", "ttyS63", "ubdb", "sda", "console"} {
		if err := os.WriteFile(filepath.Join(dev, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := removeTerminals(dev); err != nil {
		t.Fatal(err)
	}
	left, err := os.ReadDir(dev)
	if err != nil {
		t.Fatal(err)
	}
	var names []string
	for _, file := range left {
		names = append(names, file.Name())
	}
	if got, want := strings.Join(names, " "), "console ptmx sda tty ttyS0 ubdb"; got != want {
		t.Errorf("left are %q, want %q", got, want)
	}
}
