package plane

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/open-local/open-local/hack/lab/pki"
	"github.com/open-local/open-local/pkg/nodeapi"
)

// controllers are those that pods with volumes need. Nodes without heartbeats are not
// evicted from, because nobody does.
const controllers = "persistentvolume-binder-controller,persistentvolume-protection-controller,persistentvolumeclaim-protection-controller"

// WakeNamespace and WakeName are of the CSIStorageCapacity that the extender writes on. Who
// starts an extender has made it.
const (
	WakeNamespace = "kube-system"
	WakeName      = "open-local-scheduler-extender"
)

// command returns how the program of that name is run.
func (p *Plane) command(name string) []string {
	port := func(name string) string { return strconv.Itoa(p.ports[name]) }
	config := "--kubeconfig=" + p.kubeconfig(name)
	qps, burst := strconv.Itoa(p.o.QPS), strconv.Itoa(2*p.o.QPS)
	bin := p.o.Programs
	switch name {
	case Etcd:
		return []string{
			bin[Etcd], "--data-dir=" + p.file("etcd"), "--log-level=warn",
			"--unsafe-no-fsync", // nobody measures the disk of this machine
			"--listen-client-urls=" + p.StoreURL(), "--advertise-client-urls=" + p.StoreURL(), "--listen-peer-urls=" + p.url("http", portPeer),
			"--initial-advertise-peer-urls=" + p.url("http", portPeer), "--initial-cluster=default=" + p.url("http", portPeer),
			"--max-txn-ops=10000", "--max-request-bytes=33554432", "--quota-backend-bytes=8589934592",
		}
	case API:
		return append([]string{bin[API], "--etcd-servers=" + p.StoreURL(), "--secure-port=" + port(portAPI)}, p.serving()...)
	case Manager:
		return []string{
			bin[Manager], config, "--controllers=" + controllers, "--leader-elect=false", "--bind-address=127.0.0.1", "--secure-port=" + port(portManager),
			"--cert-dir=" + p.file("manager"), "--kube-api-qps=" + qps, "--kube-api-burst=" + burst,
			"--pvclaimbinder-sync-period=10m", // of the volumes that nothing happened to
		}
	case Scheduler:
		return []string{
			bin[Scheduler], "--config=" + p.file("scheduler.json"), "--bind-address=127.0.0.1", "--secure-port=" + port(portScheduler),
			"--cert-dir=" + p.file("scheduler"), "--authorization-always-allow-paths=/healthz,/metrics",
		}
	case Extender:
		return []string{
			bin["open-local"], "scheduler", config, "--port=" + port(portExtender), "--tls-port=" + port(portReserve), "--tls-dir=" + p.file("tls", "extender"),
			"--driver=" + p.o.Driver, "--scheduler-strategy=" + p.o.Strategy, "--wake-with=" + WakeNamespace + "/" + WakeName,
		}
	case Controller:
		argv := []string{
			bin["open-local"], "csi", "--mode=controller", config, "--endpoint=unix://" + p.socket(), "--tls-dir=" + p.file("tls", "csi"), "--driver=" + p.o.Driver,
			"--node-api-port=" + port(portNode), "--metrics-address=" + p.address(portCSI), "--scheduler-strategy=" + p.o.Strategy,
		}
		if p.o.Extender {
			argv = append(argv, "--extender-address="+p.address(portReserve))
		}
		if p.o.Capacity {
			argv = append(argv, "--publish-capacity="+WakeNamespace, "--publish-capacity-qps="+qps, "--publish-capacity-burst="+burst)
		}
		return argv
	case Provision: // as the chart has it
		return []string{
			bin[Provision], config, "--csi-address=" + p.socket(), "--volume-name-prefix=local", "--default-fstype=ext4", "--extra-create-metadata",
			"--feature-gates=Topology=true", "--strict-topology", "--immediate-topology=false", "--leader-election=false",
			"--kube-api-qps=" + qps, "--kube-api-burst=" + burst,
			"--worker-threads=" + strconv.Itoa(p.o.Workers), "--timeout=1m", "--retry-interval-max=30s", "--http-endpoint=" + p.address(portProvision),
		}
	}
	panic("there is no program " + name)
}

// serving is how the API server serves.
func (p *Plane) serving() []string {
	return []string{
		"--bind-address=127.0.0.1", "--service-cluster-ip-range=10.100.0.0/16",
		"--tls-cert-file=" + p.file("tls", "api", "tls.crt"), "--tls-private-key-file=" + p.file("tls", "api", "tls.key"),
		"--token-auth-file=" + p.file("tokens.csv"), "--authorization-mode=AlwaysAllow",
		// Pods here need no token.
		"--disable-admission-plugins=ServiceAccount",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-key-file=" + p.file("sa.pub"), "--service-account-signing-key-file=" + p.file("sa.key"),
		"--max-requests-inflight=3000", "--max-mutating-requests-inflight=1500", "--enable-priority-and-fairness=false",
		"--audit-policy-file=" + p.file("audit.json"), "--audit-log-path=" + p.AuditLog(), "--audit-log-mode=batch", "--audit-log-batch-throttle-enable=false", "--audit-log-maxsize=4096",
	}
}

// socket is where CSI is spoken. Its path must be short, whatever the directory is.
func (p *Plane) socket() string {
	return filepath.Join(os.TempDir(), fmt.Sprintf("scale-%d.sock", p.ports[portCSI]))
}

func (p *Plane) kubeconfig(user string) string { return p.file(user + ".kubeconfig") }

// secure makes keys and tokens, and writes all that programs read.
func (p *Plane) secure() error {
	var err error
	if p.authority, err = pki.NewAuthority("scale"); err != nil {
		return err
	}
	files := map[string][]byte{}
	if files["sa.key"], files["sa.pub"], err = pki.Key(); err != nil {
		return err
	}
	for dir, subject := range map[string]pki.Subject{
		"api":      {Name: "kube-apiserver", Hosts: []string{"127.0.0.1", "localhost"}},
		"csi":      {Name: nodeapi.DefaultClientName},
		"extender": {Name: "open-local-scheduler-extender", Hosts: []string{"127.0.0.1"}},
		"node":     {Name: nodeapi.DefaultServerName, Hosts: []string{nodeapi.DefaultServerName}},
	} {
		pair, err := p.authority.Issue(subject)
		if err != nil {
			return err
		}
		dir = filepath.Join("tls", dir)
		files[filepath.Join(dir, "tls.crt")], files[filepath.Join(dir, "tls.key")] = pair.Cert, pair.Key
		files[filepath.Join(dir, "ca.crt")] = p.authority.Cert
	}
	p.admin = pki.Token()
	tokens := []string{p.admin + `,admin,admin,"system:masters"`}
	for _, user := range []string{Manager, Scheduler, Provision, Extender, Controller} {
		token := pki.Token()
		tokens = append(tokens, fmt.Sprintf(`%s,%s,%s,"system:masters"`, token, user, user))
		files[filepath.Base(p.kubeconfig(user))] = p.renderKubeconfig(user, token)
	}
	files["tokens.csv"] = []byte(strings.Join(tokens, "\n") + "\n")
	files["scheduler.json"] = p.schedulerConfig()
	files["audit.json"] = encode(map[string]any{
		"apiVersion": "audit.k8s.io/v1", "kind": "Policy", "omitStages": []string{"RequestReceived", "ResponseStarted"},
		"rules": []any{map[string]any{"level": "Metadata", "users": Accounted}, map[string]any{"level": "None"}},
	})
	return p.write(files)
}

func (p *Plane) write(files map[string][]byte) error {
	for name, content := range files {
		if err := os.MkdirAll(filepath.Dir(p.file(name)), 0o755); err != nil {
			return fmt.Errorf("writing what the control plane reads: %w", err)
		}
		if err := os.WriteFile(p.file(name), content, 0o600); err != nil {
			return fmt.Errorf("writing what the control plane reads: %w", err)
		}
	}
	return nil
}

func (p *Plane) renderKubeconfig(user, token string) []byte {
	return encode(map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "scale",
		"clusters": []any{map[string]any{"name": "scale", "cluster": map[string]any{
			"server": p.url("https", portAPI), "certificate-authority-data": p.authority.Cert,
		}}},
		"users":    []any{map[string]any{"name": user, "user": map[string]any{"token": token}}},
		"contexts": []any{map[string]any{"name": "scale", "context": map[string]any{"cluster": "scale", "user": user}}},
	})
}

// schedulerConfig is as docs/install.md has it.
func (p *Plane) schedulerConfig() []byte {
	config := map[string]any{
		"apiVersion": "kubescheduler.config.k8s.io/v1", "kind": "KubeSchedulerConfiguration",
		"clientConnection": map[string]any{"kubeconfig": p.kubeconfig(Scheduler), "qps": p.o.QPS, "burst": 2 * p.o.QPS},
		"leaderElection":   map[string]any{"leaderElect": false},
	}
	if p.o.Percentage > 0 {
		config["percentageOfNodesToScore"] = p.o.Percentage
	}
	if p.o.Extender {
		config["extenders"] = []any{map[string]any{
			"urlPrefix": p.url("http", portExtender) + "/scheduler", "filterVerb": "predicates", "prioritizeVerb": "priorities",
			"weight": 10, "nodeCacheCapable": true, "ignorable": true,
		}}
	}
	return encode(config)
}

// encode writes JSON, which is YAML too.
func encode(value any) []byte {
	text, err := json.MarshalIndent(value, "", "  ")
	if err != nil {
		panic("a map of strings cannot be encoded: " + err.Error())
	}
	return []byte(strings.TrimSpace(string(text)) + "\n")
}
