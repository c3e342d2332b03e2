package daemon

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/open-local/open-local/hack/lab/network"
	"github.com/open-local/open-local/hack/lab/pki"
)

// issuer is what the tokens of ServiceAccounts say about where they come from.
const issuer = "https://kubernetes.default.svc." + network.Domain

// apiServer is where everything in the lab finds the API server.
var apiServer = "https://" + net.JoinHostPort(network.Gateway, strconv.Itoa(network.APIPort))

// An argument is one flag of a program.
type argument struct{ name, value string }

func command(program string, arguments []argument) []string {
	argv := []string{program}
	for _, a := range arguments {
		argv = append(argv, "--"+a.name+"="+a.value)
	}
	return argv
}

// commands returns the control plane's programs with their arguments.
func (c Config) commands() map[string][]string {
	bin := func(name string) string { return c.Programs() + "/" + name }
	key := func(name string) string { return c.file("pki", name) }
	return map[string][]string{
		"etcd": command(bin("etcd"), []argument{
			{"data-dir", c.file("etcd")},
			{"unsafe-no-fsync", "true"}, // a lab does not outlive its host
			{"listen-client-urls", "http://127.0.0.1:2379"},
			{"advertise-client-urls", "http://127.0.0.1:2379"},
			{"log-level", "warn"},
		}),
		"kube-apiserver": command(bin("kube-apiserver"), []argument{
			{"etcd-servers", "http://127.0.0.1:2379"},
			{"bind-address", network.Gateway},
			{"advertise-address", network.Gateway},
			{"secure-port", strconv.Itoa(network.APIPort)},
			{"service-cluster-ip-range", network.ServiceCIDR},
			{"tls-cert-file", key("apiserver.crt")},
			{"tls-private-key-file", key("apiserver.key")},
			{"client-ca-file", key("ca.crt")},
			{"token-auth-file", key("tokens.csv")},
			{"authorization-mode", "Node,RBAC"},
			{"enable-admission-plugins", "NodeRestriction"},
			{"allow-privileged", "true"},
			{"service-account-issuer", issuer},
			{"service-account-key-file", key("sa.pub")},
			{"service-account-signing-key-file", key("sa.key")},
			{"kubelet-preferred-address-types", "InternalIP"},
			{"kubelet-certificate-authority", key("ca.crt")},
			{"kubelet-client-certificate", key("apiserver-kubelet.crt")},
			{"kubelet-client-key", key("apiserver-kubelet.key")},
			{"requestheader-client-ca-file", key("ca.crt")},
			{"requestheader-allowed-names", "front-proxy"},
			{"requestheader-username-headers", "X-Remote-User"},
			{"requestheader-group-headers", "X-Remote-Group"},
			{"requestheader-extra-headers-prefix", "X-Remote-Extra-"},
			{"proxy-client-cert-file", key("front-proxy.crt")},
			{"proxy-client-key-file", key("front-proxy.key")},
		}),
		"kube-controller-manager": command(bin("kube-controller-manager"), []argument{
			{"kubeconfig", key("kube-controller-manager.kubeconfig")},
			{"authentication-kubeconfig", key("kube-controller-manager.kubeconfig")},
			{"authorization-kubeconfig", key("kube-controller-manager.kubeconfig")},
			{"leader-elect", "false"},
			{"service-account-private-key-file", key("sa.key")},
			{"root-ca-file", key("ca.crt")},
			{"use-service-account-credentials", "true"},
			{"kube-api-qps", "200"},
			{"kube-api-burst", "400"},
		}),
		"kube-scheduler": command(bin("kube-scheduler"), []argument{
			{"config", c.SchedulerFile()},
			{"authentication-kubeconfig", key("kube-scheduler.kubeconfig")},
			{"authorization-kubeconfig", key("kube-scheduler.kubeconfig")},
		}),
		// It ends when its kinds are not defined in time, and is started again.
		"snapshot-controller": command(bin("snapshot-controller"), []argument{
			{"kubeconfig", key("snapshot-controller.kubeconfig")},
			{"feature-gates", "CSIVolumeGroupSnapshot=false"},
			{"retry-interval-max", "10s"},
			{"kube-api-qps", "200"},
			{"kube-api-burst", "400"},
		}),
	}
}

// SchedulerConfig is what kube-scheduler is told when the user does not say: the
// extender of open-local, which need not be there yet.
func (c Config) SchedulerConfig() string {
	return `apiVersion: kubescheduler.config.k8s.io/v1
kind: KubeSchedulerConfiguration
clientConnection:
  kubeconfig: ` + c.file("pki", "kube-scheduler.kubeconfig") + `
  qps: 200
  burst: 400
leaderElection:
  leaderElect: false
extenders:
- urlPrefix: http://open-local-scheduler-extender.kube-system:23000/scheduler
  filterVerb: predicates
  prioritizeVerb: priorities
  weight: 10
  nodeCacheCapable: true
  ignorable: true
  httpTimeout: 10s
`
}

// Kubeconfig renders how a user with a token goes to an API server.
func (c Config) Kubeconfig(server, user, token string) string {
	config := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "lab",
		"clusters": []any{map[string]any{"name": "lab", "cluster": map[string]any{
			"server": server, "certificate-authority-data": c.CA.Cert,
		}}},
		"users":    []any{map[string]any{"name": user, "user": map[string]any{"token": token}}},
		"contexts": []any{map[string]any{"name": "lab", "context": map[string]any{"cluster": "lab", "user": user}}},
	}
	text, err := json.MarshalIndent(config, "", "  ")
	if err != nil {
		panic("a map of strings cannot be encoded: " + err.Error())
	}
	return string(text) + "\n"
}

// Secure makes the certificates, keys and tokens of a new lab and writes what
// the control plane reads.
func (c *Config) Secure() error {
	ca, err := pki.NewAuthority("lab")
	if err != nil {
		return err
	}
	c.CA, c.Admin, c.Token = pki.Pair{Cert: ca.Cert}, pki.Token(), pki.Token()
	c.Kubelets, c.NodeTokens = map[string]pki.Pair{}, map[string]string{}
	tokens := []string{c.Admin + `,admin,admin,"system:masters"`}
	files := map[string][]byte{"ca.crt": ca.Cert}
	if files["sa.key"], files["sa.pub"], err = pki.Key(); err != nil {
		return err
	}
	for i := 1; i <= c.Nodes; i++ {
		node := NodeName(i)
		if c.Kubelets[node], err = ca.Issue(pki.Subject{Name: "system:node:" + node, Hosts: []string{node, network.NodeIP(i)}}); err != nil {
			return err
		}
		c.NodeTokens[node] = pki.Token()
		tokens = append(tokens, fmt.Sprintf(`%s,system:node:%s,%s,"system:nodes"`, c.NodeTokens[node], node, node))
	}
	for file, subject := range map[string]pki.Subject{
		"apiserver": {Name: "kube-apiserver", Hosts: []string{
			network.Gateway, network.APIService, "127.0.0.1", "localhost",
			"kubernetes", "kubernetes.default", "kubernetes.default.svc", "kubernetes.default.svc." + network.Domain,
		}},
		"apiserver-kubelet": {Name: "kube-apiserver", Group: "system:masters"},
		"front-proxy":       {Name: "front-proxy"},
	} {
		pair, err := ca.Issue(subject)
		if err != nil {
			return err
		}
		files[file+".crt"], files[file+".key"] = pair.Cert, pair.Key
	}
	// Kubernetes has roles for its own programs only.
	for component, groups := range map[string]string{
		"kube-scheduler": "", "kube-controller-manager": "", "snapshot-controller": `,"system:masters"`,
	} {
		token := pki.Token()
		tokens = append(tokens, fmt.Sprintf("%s,system:%s,%s%s", token, component, component, groups))
		files[component+".kubeconfig"] = []byte(c.Kubeconfig(apiServer, component, token))
	}
	files["tokens.csv"] = []byte(strings.Join(tokens, "\n") + "\n")
	return c.writeFiles(files)
}

func (c Config) writeFiles(files map[string][]byte) error {
	if err := os.MkdirAll(c.file("pki"), 0o700); err != nil {
		return fmt.Errorf("making a directory for keys: %w", err)
	}
	for name, content := range files {
		if err := os.WriteFile(c.file("pki", name), content, 0o600); err != nil {
			return fmt.Errorf("writing the control plane's keys: %w", err)
		}
	}
	return nil
}
