//go:build lab

package cluster

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
)

// TestALab goes through all that a lab promises, on one lab, because to bring up
// several would take minutes.
func TestALab(t *testing.T) {
	dir := t.TempDir()
	c, err := Up(t.Context(), Options{Dir: dir, Nodes: 2, Disks: "2x1G", SCSIDisks: "2x64M", Progress: t.Output()})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := c.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	s := smoke{T: t, lab: c}
	config, err := c.RESTConfig()
	s.must(err)
	s.kube, err = kubernetes.NewForConfig(config)
	s.must(err)
	for _, step := range []struct {
		name string
		run  func(smoke)
	}{
		{"up again uses what is there", upAgain},
		{"pods find services by name and through their address", pods},
		{"commands run on nodes", commands},
		{"volumes are there after a reboot, and pods again", reboot},
		{"a power cut keeps what was written", powerCut},
		{"a disk comes and goes", hotPlug},
		{"disks are swapped and keep who they are and what is on them", swapped},
		{"a SCSI disk is torn out, fails, grows and is read-only", unlucky},
		{"a part of the control plane comes back", restart},
	} {
		if !t.Run(step.name, func(t *testing.T) { step.run(smoke{t, c, s.kube}) }) {
			t.FailNow()
		}
	}
	s.must(c.Down(t.Context()))
	nothingIsLeft(t, dir)
	s.must(Down(dir)) // there is nothing to do, and that is no error
}

func TestAnUpThatIsInterruptedLeavesNothing(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	_, err := Up(ctx, Options{Dir: dir, Progress: when("control plane ready", cancel)})
	if !errors.Is(err, context.Canceled) {
		t.Errorf("got %v", err)
	}
	nothingIsLeft(t, dir)
}

func TestALabThatWasKilledIsReplaced(t *testing.T) {
	dir := t.TempDir()
	killed := 0
	for range 2 {
		c, err := Up(t.Context(), Options{Dir: dir, Progress: t.Output()})
		if err != nil {
			t.Fatal(err)
		}
		_, pid := running(c.Dir())
		if pid == killed {
			t.Fatal("the lab that was killed is taken for one that runs")
		}
		killed = pid
		process, err := os.FindProcess(pid)
		if err != nil {
			t.Fatal(err)
		}
		if err := process.Kill(); err != nil {
			t.Fatal(err)
		}
		for range time.Tick(10 * time.Millisecond) {
			if alive, _ := running(dir); !alive {
				break
			}
		}
	}
	if err := Down(dir); err != nil {
		t.Fatal(err)
	}
	nothingIsLeft(t, dir)
}

// when returns a writer that calls do when it is told something.
func when(text string, do func()) writer {
	return func(p []byte) (int, error) {
		if strings.Contains(string(p), text) {
			do()
		}
		return len(p), nil
	}
}

type writer func([]byte) (int, error)

func (w writer) Write(p []byte) (int, error) { return w(p) }

type smoke struct {
	*testing.T
	lab  *Cluster
	kube *kubernetes.Clientset
}

func (s smoke) must(err error) {
	s.Helper()
	if err != nil {
		s.Fatal(err)
	}
}

// exec runs a script on a node.
func (s smoke) exec(node, script string) string {
	s.Helper()
	out, err := s.lab.Exec(s.Context(), node, "sh", "-ec", script)
	s.must(err)
	return out
}

// eventually asks until there is no complaint.
func (s smoke) eventually(complaint func() error) {
	s.Helper()
	ctx, cancel := context.WithTimeout(s.Context(), 90*time.Second)
	defer cancel()
	s.must(s.lab.poll(ctx, func(context.Context) (bool, error) {
		err := complaint()
		return err == nil, err
	}))
}

func upAgain(s smoke) {
	started := time.Now()
	again, err := Up(s.Context(), Options{Dir: s.lab.Dir(), Progress: s.Output()})
	s.must(err)
	if again.Kubeconfig() != s.lab.Kubeconfig() || time.Since(started) > 5*time.Second {
		s.Errorf("another lab in %s after %s", again.Dir(), time.Since(started))
	}
}

func pods(s smoke) {
	labels := map[string]string{"app": "web"}
	meta := metav1.ObjectMeta{Name: "web", Labels: labels}
	_, err := s.kube.AppsV1().DaemonSets("default").Create(s.Context(), &appsv1.DaemonSet{ObjectMeta: meta, Spec: appsv1.DaemonSetSpec{
		Selector: &metav1.LabelSelector{MatchLabels: labels},
		Template: corev1.PodTemplateSpec{ObjectMeta: meta, Spec: podOf("docker.io/library/nginx:1.27")},
	}}, metav1.CreateOptions{})
	s.must(err)
	web, err := s.kube.CoreV1().Services("default").Create(s.Context(), &corev1.Service{ObjectMeta: meta, Spec: corev1.ServiceSpec{
		Selector: labels, Ports: []corev1.ServicePort{{Port: 80}},
	}}, metav1.CreateOptions{})
	s.must(err)
	_, err = s.kube.CoreV1().Services("default").Create(s.Context(), &corev1.Service{
		ObjectMeta: metav1.ObjectMeta{Name: "idle"}, Spec: corev1.ServiceSpec{Selector: map[string]string{"app": "none"}, Ports: []corev1.ServicePort{{Port: 80}}},
	}, metav1.CreateOptions{})
	s.must(err)
	s.eventually(func() error { return s.webRuns(2) })

	script := `for host in web web.default web.default.svc.cluster.local; do wget -qO- http://$host | grep -q nginx; done
! wget -qO- http://idle 2>&1 | grep -v refused
test -s /var/run/secrets/kubernetes.io/serviceaccount/token`
	client := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: "client"}, Spec: podOf("docker.io/library/busybox:1.36", "sh", "-exc", script)}
	client.Spec.RestartPolicy = corev1.RestartPolicyNever
	_, err = s.kube.CoreV1().Pods("default").Create(s.Context(), client, metav1.CreateOptions{})
	s.must(err)
	s.eventually(func() error {
		pod, err := s.kube.CoreV1().Pods("default").Get(s.Context(), "client", metav1.GetOptions{})
		if err == nil && pod.Status.Phase != corev1.PodSucceeded {
			log, _ := s.kube.CoreV1().Pods("default").GetLogs("client", &corev1.PodLogOptions{}).DoRaw(s.Context())
			err = fmt.Errorf("pod client is %s; it says %s", pod.Status.Phase, log)
		}
		return err
	})

	outside := &http.Client{Transport: &http.Transport{DialContext: s.lab.Dial}}
	answer, err := outside.Get("http://" + net.JoinHostPort(web.Spec.ClusterIP, "80"))
	s.must(err)
	defer answer.Body.Close()
	if line, err := bufio.NewReader(answer.Body).ReadString('\n'); err != nil || !strings.Contains(line, "open-local lab") {
		s.Errorf("through the service's address came %q and %v", line, err)
	}
}

func podOf(image string, command ...string) corev1.PodSpec {
	grace := int64(1)
	return corev1.PodSpec{TerminationGracePeriodSeconds: &grace, Containers: []corev1.Container{{Name: "c", Image: image, Command: command}}}
}

// webRuns complains unless so many pods of the DaemonSet are ready.
func (s smoke) webRuns(want int32) error {
	set, err := s.kube.AppsV1().DaemonSets("default").Get(s.Context(), "web", metav1.GetOptions{})
	if err == nil && set.Status.NumberReady != want {
		err = fmt.Errorf("%d pods are ready, want %d", set.Status.NumberReady, want)
	}
	return err
}

func commands(s smoke) {
	if name := s.exec("n2", "uname -n"); name != "n2\n" {
		s.Errorf("node n2 calls itself %q", name)
	}
	_, err := s.lab.Exec(s.Context(), "n1", "sh", "-c", "echo why >&2; exit 3")
	var exit *ExitError
	if !errors.As(err, &exit) || exit.Code != 3 || exit.Stderr != "why\n" {
		s.Errorf("got %v, want exit code 3 with what was said", err)
	}
	if _, err := s.lab.Exec(s.Context(), "n1", "no-such-program"); err == nil || !strings.Contains(err.Error(), "not found") {
		s.Errorf("got %v, want that there is no such program", err)
	}
	for _, device := range append(s.lab.Disks(), "/dev/vdb", "/dev/vdc") {
		s.exec("n1", "test -b "+device)
	}
}

func reboot(s smoke) {
	s.exec("n1", "vgcreate -q g /dev/vdc && lvcreate -qy -n a -L 64M g && mkfs.ext4 -q /dev/g/a && mount /dev/g/a /mnt && echo data >/mnt/f && umount /mnt")
	s.must(s.lab.Reboot(s.Context(), "n1"))
	if got := s.exec("n1", "for i in $(seq 50); do test -e /dev/g/a && break; sleep 0.1; done; mount /dev/g/a /mnt && cat /mnt/f && umount /mnt"); got != "data\n" {
		s.Errorf("after the reboot there is %q", got)
	}
	s.must(s.lab.WaitReady(s.Context()))
	s.eventually(func() error { return s.webRuns(2) })
}

func powerCut(s smoke) {
	s.exec("n1", "mount /dev/g/a /mnt && echo written >/mnt/w && sync -f /mnt/w && echo lost >/mnt/l")
	s.must(s.lab.Kill(s.Context(), "n1"))
	status, err := s.lab.Status(s.Context())
	s.must(err)
	if status.Nodes[0].Running || !status.Nodes[1].Running {
		s.Errorf("after the power cut: %+v", status.Nodes)
	}
	s.must(s.lab.Kill(s.Context(), "n1")) // it is off already
	s.must(s.lab.Start(s.Context(), "n1"))
	if err := s.lab.Start(s.Context(), "n1"); err == nil {
		s.Error("a running node was started")
	}
	if got := s.exec("n1", "for i in $(seq 50); do test -e /dev/g/a && break; sleep 0.1; done; mount /dev/g/a /mnt && ls /mnt && umount /mnt"); !strings.Contains(got, "w\n") || strings.Contains(got, "l\n") {
		s.Errorf("after the power cut there is %q", got)
	}
	s.must(s.lab.WaitReady(s.Context()))
}

func hotPlug(s smoke) {
	device, err := s.lab.AddDisk(s.Context(), "n2", "256M")
	s.must(err)
	if device != "/dev/ubdd" {
		s.Errorf("the disk is %s", device)
	}
	s.exec("n2", "vgcreate -q h /dev/vdd && lvcreate -qy -n a -l100%FREE h && mount -t tmpfs none /mnt && umount /mnt")
	if err := s.lab.RemoveDisk(s.Context(), "n2", device); err == nil {
		s.Error("a disk in use was removed")
	}
	s.exec("n2", "vgremove -qy h")
	s.must(s.lab.RemoveDisk(s.Context(), "n2", device))
	s.exec("n2", "test ! -e /sys/block/ubdd")
}

// disk returns what a node says of a disk.
func (s smoke) disk(node, device string) Disk {
	s.Helper()
	disks, err := s.lab.ListDisks(s.Context(), node)
	s.must(err)
	for _, d := range disks {
		if d.Device == device {
			return d
		}
	}
	s.Fatalf("node %s has no %s but %v", node, device, disks)
	return Disk{}
}

func swapped(s smoke) {
	s.exec("n2", "echo one | dd of=/dev/ubdb conv=fsync; echo two | dd of=/dev/ubdc conv=fsync; echo three | dd of=/dev/sda conv=fsync")
	wantText := func(device, text string) {
		s.Helper()
		if got := s.exec("n2", "head -c "+fmt.Sprint(len(text))+" "+device); got != text {
			s.Errorf("%s begins with %q, want %q", device, got, text)
		}
	}
	one := s.disk("n2", "/dev/ubdb")
	s.must(s.lab.SwapDisks(s.Context(), "n2", one.ID, "/dev/ubdc"))
	wantText("/dev/ubdb", "one") // until the next boot
	s.must(s.lab.Reboot(s.Context(), "n2"))
	wantText("/dev/ubdb", "two")
	wantText("/dev/ubdc", "one")
	if got := s.disk("n2", "/dev/ubdc"); got.ID != one.ID {
		s.Errorf("%s became %s", one.ID, got.ID)
	}
	for _, device := range []string{"/dev/ubdb", "/dev/ubdc"} {
		s.must(s.lab.RemoveDisk(s.Context(), "n2", device))
	}
	s.must(s.lab.SwapDisks(s.Context(), "n2", "/dev/ubdb", "/dev/ubdc"))
	for _, id := range []string{"serial-N2-b", "serial-N2-c"} {
		_, err := s.lab.ReturnDisk(s.Context(), "n2", id)
		s.must(err)
	}
	wantText("/dev/ubdb", "one")
	s.exec("n2", "echo three | dd of=/dev/sda conv=fsync")
	s.must(s.lab.SwapDisks(s.Context(), "n2", "/dev/sda", "/dev/sdb"))
	wantText("/dev/sdb", "three")
	s.must(s.lab.SwapDisks(s.Context(), "n2", "/dev/sda", "/dev/sdb"))
	s.must(s.lab.WaitReady(s.Context()))
}

func unlucky(s smoke) {
	const device = "/dev/sda"
	id := s.disk("n2", device).ID
	s.exec("n2", "mkfs.ext4 -q "+device+" && mount "+device+" /mnt && echo kept >/mnt/f && sync")
	s.must(s.lab.RemoveDisk(s.Context(), "n2", device))
	s.exec("n2", "! head -c 1 "+device+" && umount /mnt")
	back, err := s.lab.ReturnDisk(s.Context(), "n2", id)
	s.must(err)
	s.exec("n2", "mount "+back+" /mnt && grep kept /mnt/f && umount /mnt")
	s.must(s.lab.FailDisk(s.Context(), "n2", id))
	s.exec("n2", "! dd if="+back+" of=/dev/null count=1 iflag=direct")
	s.must(s.lab.HealDisk(s.Context(), "n2", id))
	s.exec("n2", "dd if="+back+" of=/dev/null count=1 iflag=direct")
	s.must(s.lab.ProtectDisk(s.Context(), "n2", id, true))
	s.exec("n2", "! dd if=/dev/zero of="+back+" count=1 seek=2048 conv=fsync")
	s.must(s.lab.ProtectDisk(s.Context(), "n2", id, false))
	s.exec("n2", "dd if=/dev/zero of="+back+" count=1 seek=2048 conv=fsync")
	s.must(s.lab.GrowDisk(s.Context(), "n2", id, "1G"))
	if got := s.disk("n2", back); got.Size != 1<<30 {
		s.Errorf("the disk that grew has %s", got.Size)
	}
	s.must(s.lab.ShrinkDisks(s.Context(), "n2"))
	if got := s.disk("n2", back); got.Size != 64<<20 {
		s.Errorf("the disk that shrank has %s", got.Size)
	}
	s.must(s.lab.GrowDisk(s.Context(), "n2", "/dev/ubdc", "2G"))
	if got := s.disk("n2", "/dev/ubdc"); got.Size != 2<<30 {
		s.Errorf("the disk that grew has %s", got.Size)
	}
}

func restart(s smoke) {
	s.must(s.lab.Restart(s.Context(), "kube-scheduler"))
	s.eventually(func() error {
		status, err := s.lab.Status(s.Context())
		if err != nil {
			return err
		}
		for _, c := range status.Components {
			if c.Name == "kube-scheduler" && c.Running && c.Restarts == 1 {
				return nil
			}
		}
		return fmt.Errorf("components: %+v", status.Components)
	})
	if err := s.lab.Restart(s.Context(), "kube-proxy"); err == nil {
		s.Error("a program that there is not was restarted")
	}
}

// nothingIsLeft complains about every process, mount, card and file of a lab.
func nothingIsLeft(t *testing.T, dir string) {
	t.Helper()
	files, err := filepath.Glob("/proc/[0-9]*/cmdline")
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && strings.Contains(string(text), dir+"/") {
			t.Errorf("process %s is left: %q", file, text)
		}
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		t.Fatal(err)
	}
	if strings.Contains(string(mounts), dir) || strings.Contains(string(mounts), runtimeDir(dir)) {
		t.Errorf("a mount is left:\n%s", mounts)
	}
	cards, err := net.Interfaces()
	if err != nil {
		t.Fatal(err)
	}
	for _, card := range cards {
		if card.Name == "lab0" || strings.HasPrefix(card.Name, "tap") {
			t.Errorf("card %s is left", card.Name)
		}
	}
	if _, err := os.Stat(runtimeDir(dir)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("%s is left: %v", runtimeDir(dir), err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "log" && e.Name() != "lock" {
			t.Errorf("%s is left in %s", e.Name(), dir)
		}
	}
}
