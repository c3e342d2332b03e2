package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"

	"github.com/open-local/open-local/hack/lab/daemon"
)

// Reboot switches a node off in order and on again. It returns when the node has
// booted; WaitReady waits for its kubelet.
func (c *Cluster) Reboot(ctx context.Context, node string) error {
	return c.order(ctx, daemon.PathNode+node+"/reboot")
}

// Kill cuts a node's power: its disks keep what was written to them.
func (c *Cluster) Kill(ctx context.Context, node string) error {
	return c.order(ctx, daemon.PathNode+node+"/kill")
}

// Start switches a node on that was killed. It returns when the node has booted.
func (c *Cluster) Start(ctx context.Context, node string) error {
	return c.order(ctx, daemon.PathNode+node+"/start")
}

// Restart kills a program of the control plane, for example "kube-scheduler",
// which is started again at once.
func (c *Cluster) Restart(ctx context.Context, component string) error {
	return c.order(ctx, daemon.PathComponent+component+"/restart")
}

// SchedulerConfig returns the KubeSchedulerConfiguration of kube-scheduler.
func (c *Cluster) SchedulerConfig() (string, error) {
	config, err := os.ReadFile(c.config.SchedulerFile())
	if err != nil {
		return "", fmt.Errorf("reading the scheduler's configuration: %w", err)
	}
	return string(config), nil
}

// ConfigureScheduler gives kube-scheduler another configuration and starts it anew. What
// the configuration names must lie in Dir.
func (c *Cluster) ConfigureScheduler(ctx context.Context, config string) error {
	if err := c.writeSchedulerConfig(config); err != nil {
		return err
	}
	return c.Restart(ctx, "kube-scheduler")
}

func (c *Cluster) writeSchedulerConfig(config string) error {
	if err := os.WriteFile(c.config.SchedulerFile(), []byte(config), 0o644); err != nil {
		return fmt.Errorf("writing the scheduler's configuration: %w", err)
	}
	return nil
}

// Status tells what runs.
func (c *Cluster) Status(ctx context.Context) (daemon.Status, error) {
	var status daemon.Status
	text, err := c.ask(ctx, http.MethodGet, daemon.PathStatus)
	if err != nil {
		return status, err
	}
	if err := json.Unmarshal([]byte(text), &status); err != nil {
		return status, fmt.Errorf("reading the lab's status: %w", err)
	}
	return status, nil
}

// LoadImage gives every node the image in a docker or OCI archive. Nodes that
// are off load it when they start.
func (c *Cluster) LoadImage(ctx context.Context, archive string) error {
	if err := c.addImage(archive); err != nil {
		return err
	}
	return c.loadEverywhere(ctx)
}

// addImage copies an archive to where nodes look for them. The name holds a sum
// of the content, so that an image built anew is loaded anew.
func (c *Cluster) addImage(archive string) error {
	in, err := os.Open(archive)
	if err != nil {
		return fmt.Errorf("opening an image: %w", err)
	}
	defer in.Close()
	temp, err := os.CreateTemp(c.config.Images(), ".part-")
	if err != nil {
		return fmt.Errorf("copying image %s: %w", archive, err)
	}
	defer os.Remove(temp.Name()) // nothing is there after the rename
	sum := sha256.New()
	_, err = io.Copy(io.MultiWriter(temp, sum), in)
	if err = errors.Join(err, temp.Close()); err != nil {
		return fmt.Errorf("copying image %s: %w", archive, err)
	}
	name := strings.TrimSuffix(filepath.Base(archive), ".tar") + "-" + hex.EncodeToString(sum.Sum(nil)[:6]) + ".tar"
	return os.Rename(temp.Name(), filepath.Join(c.config.Images(), name))
}

// loadEverywhere makes the running nodes load what they do not have.
func (c *Cluster) loadEverywhere(ctx context.Context) error {
	status, err := c.Status(ctx)
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	for _, node := range status.Nodes {
		if node.Running {
			group.Go(func() error { return c.order(ctx, daemon.PathNode+node.Name+"/images") })
		}
	}
	return group.Wait()
}

// WaitReady waits until Kubernetes calls the nodes ready, all if none is named,
// and a kubelet started after a reboot has said so itself.
func (c *Cluster) WaitReady(ctx context.Context, nodes ...string) error {
	if len(nodes) == 0 {
		nodes = c.Nodes()
	}
	return c.poll(ctx, func(ctx context.Context) (bool, error) { return c.ready(ctx, nodes) })
}

func (c *Cluster) nodesReady(ctx context.Context) (bool, error) { return c.ready(ctx, c.Nodes()) }

func (c *Cluster) ready(ctx context.Context, names []string) (bool, error) {
	client, err := c.client()
	if err != nil {
		return false, err
	}
	for _, name := range names {
		node, err := client.CoreV1().Nodes().Get(ctx, name, metav1.GetOptions{})
		if err != nil {
			return false, err
		}
		if !isReady(node) {
			return false, fmt.Errorf("node %s is not ready", name)
		}
		// What it said before a reboot does not count.
		boot, err := c.Exec(ctx, name, "cat", "/proc/sys/kernel/random/boot_id")
		if err != nil {
			return false, err
		}
		if node.Status.NodeInfo.BootID != strings.TrimSpace(boot) {
			return false, fmt.Errorf("node %s has not said since its boot that it is ready", name)
		}
	}
	return true, nil
}

func isReady(node *corev1.Node) bool {
	for _, condition := range node.Status.Conditions {
		if condition.Type == corev1.NodeReady {
			return condition.Status == corev1.ConditionTrue
		}
	}
	return false
}

// apiReady tells whether pods can be made: they need a ServiceAccount.
func (c *Cluster) apiReady(ctx context.Context) (bool, error) {
	client, err := c.client()
	if err != nil {
		return false, err
	}
	_, err = client.CoreV1().ServiceAccounts(metav1.NamespaceDefault).Get(ctx, "default", metav1.GetOptions{})
	return err == nil, err
}

func (c *Cluster) client() (*kubernetes.Clientset, error) {
	config, err := c.RESTConfig()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("making a client for the lab: %w", err)
	}
	return client, nil
}

func (c *Cluster) order(ctx context.Context, path string) error {
	_, err := c.ask(ctx, http.MethodPost, path)
	return err
}

// ask makes a request of the daemon and returns its answer's text.
func (c *Cluster) ask(ctx context.Context, method, path string) (string, error) {
	answer, err := c.request(ctx, method, path)
	if err != nil {
		return "", err
	}
	defer answer.Body.Close()
	text, err := io.ReadAll(io.LimitReader(answer.Body, 1<<20))
	if err != nil {
		return "", fmt.Errorf("reading the lab's answer to %s: %w", path, err)
	}
	if answer.StatusCode != http.StatusOK {
		return "", errors.New(strings.TrimSpace(string(text)))
	}
	return string(text), nil
}

func (c *Cluster) request(ctx context.Context, method, path string) (*http.Response, error) {
	client := &http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext:       func(ctx context.Context, _, _ string) (net.Conn, error) { return c.dialDaemon(ctx) },
	}}
	request, err := http.NewRequestWithContext(ctx, method, "http://lab"+path, nil)
	if err != nil {
		return nil, fmt.Errorf("ordering %s: %w", path, err)
	}
	return client.Do(request)
}

func (c *Cluster) dialDaemon(ctx context.Context) (net.Conn, error) {
	conn, err := new(net.Dialer).DialContext(ctx, "unix", c.config.Socket())
	if alive, _ := running(c.config.Dir); err != nil && !alive {
		return nil, ErrNotRunning
	}
	return conn, err
}

func (c *Cluster) upgrade(ctx context.Context, path string) (net.Conn, error) {
	conn, err := c.dialDaemon(ctx)
	if err != nil {
		return nil, err
	}
	stop := context.AfterFunc(ctx, func() { _ = conn.Close() })
	defer stop()
	up, err := daemon.Upgrade(conn, path)
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return up, nil
}
