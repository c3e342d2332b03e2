package daemon

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"k8s.io/client-go/tools/clientcmd"
	"sigs.k8s.io/yaml"
)

func TestParseStat(t *testing.T) {
	tests := map[string]struct {
		text         string
		pid, session int
		alive, ok    bool
	}{
		"a process":                   {text: "42 (etcd) S 1 40 40 0 -1", pid: 42, session: 40, alive: true, ok: true},
		"a name with anything in it":  {text: "42 (a) b) R 1 2 3) S 1 40 41 0 -1", pid: 42, session: 41, alive: true, ok: true},
		"one that ended and is there": {text: "42 (etcd) Z 1 40 40 0 -1", pid: 42, session: 40, ok: true},
		"half a line":                 {text: "42 (etcd) S 1"},
		"nothing":                     {text: ""},
	}
	for name, test := range tests {
		t.Run(name, func(t *testing.T) {
			pid, session, alive, ok := parseStat(test.text)
			if ok != test.ok || ok && (pid != test.pid || session != test.session || alive != test.alive) {
				t.Errorf("got %d %d %t %t, want %+v", pid, session, alive, ok, test)
			}
		})
	}
}

func TestTheControlPlanesCommands(t *testing.T) {
	c := Config{Dir: "/lab"}
	commands := c.commands()
	for _, name := range order {
		if len(commands[name]) == 0 || commands[name][0] != "/lab/bin/"+name {
			t.Errorf("%s is run as %v", name, commands[name])
		}
	}
	for program, flags := range map[string][]string{
		"kube-apiserver":          {"--bind-address=10.99.0.1", "--authorization-mode=Node,RBAC", "--service-cluster-ip-range=10.100.0.0/16"},
		"kube-scheduler":          {"--config=/lab/scheduler.yaml"},
		"kube-controller-manager": {"--leader-elect=false"},
		"snapshot-controller":     {"--kubeconfig=/lab/pki/snapshot-controller.kubeconfig"},
		"etcd":                    {"--data-dir=/lab/etcd"},
	} {
		for _, flag := range flags {
			if !slices.Contains(commands[program], flag) {
				t.Errorf("%s lacks %s: %v", program, flag, commands[program])
			}
		}
	}
}

func TestTheSchedulerAsksTheExtenderAndGoesOnWithoutIt(t *testing.T) {
	var config struct {
		Kind      string
		Extenders []map[string]any
	}
	if err := yaml.UnmarshalStrict([]byte(Config{Dir: "/lab"}.SchedulerConfig()), &map[string]any{}); err != nil {
		t.Fatal(err)
	}
	if err := yaml.Unmarshal([]byte(Config{Dir: "/lab"}.SchedulerConfig()), &config); err != nil {
		t.Fatal(err)
	}
	want := []map[string]any{{
		"urlPrefix":  "http://open-local-scheduler-extender.kube-system:23000/scheduler",
		"filterVerb": "predicates", "prioritizeVerb": "priorities", "weight": 10.0,
		"nodeCacheCapable": true, "ignorable": true, "httpTimeout": "10s",
	}}
	if diff := cmp.Diff(want, config.Extenders); diff != "" || config.Kind != "KubeSchedulerConfiguration" {
		t.Errorf("kind %s, extenders (-want +got):\n%s", config.Kind, diff)
	}
}

func TestAKubeconfigIsOneForClientGo(t *testing.T) {
	c := Config{}
	c.CA.Cert = []byte("certificate")
	config, err := clientcmd.RESTConfigFromKubeConfig([]byte(c.Kubeconfig("https://127.0.0.1:6443", "admin", "token")))
	if err != nil {
		t.Fatal(err)
	}
	got := []string{config.Host, config.BearerToken, string(config.CAData)}
	if diff := cmp.Diff([]string{"https://127.0.0.1:6443", "token", "certificate"}, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}

func TestALabsSecretsAreItsOwnAndRootsOnly(t *testing.T) {
	one, two := Config{Dir: t.TempDir(), Nodes: 2}, Config{Dir: t.TempDir(), Nodes: 2}
	for _, c := range []*Config{&one, &two} {
		if err := c.Secure(); err != nil {
			t.Fatal(err)
		}
	}
	if one.Admin == two.Admin || one.Token == two.Token {
		t.Error("two labs have the same tokens")
	}
	tokens, err := os.ReadFile(filepath.Join(one.Dir, "pki", "tokens.csv"))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		one.Admin + `,admin,admin,"system:masters"`,
		one.NodeTokens["n2"] + `,system:node:n2,n2,"system:nodes"`,
		",system:kube-scheduler,kube-scheduler\n",
	} {
		if !strings.Contains(string(tokens), want) {
			t.Errorf("tokens lack %q", want)
		}
	}
	files, err := filepath.Glob(filepath.Join(one.Dir, "pki", "*"))
	if err != nil {
		t.Fatal(err)
	}
	for _, file := range files {
		info, err := os.Stat(file)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode().Perm() != 0o600 {
			t.Errorf("%s has mode %s", file, info.Mode().Perm())
		}
	}
}

func TestAConfigurationIsReadAsItWasWritten(t *testing.T) {
	want := Config{Dir: t.TempDir(), Nodes: 1, Port: 4711}
	if err := want.Secure(); err != nil {
		t.Fatal(err)
	}
	if err := want.Write(); err != nil {
		t.Fatal(err)
	}
	got, err := ReadConfig(want.Dir)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("configuration (-want +got):\n%s", diff)
	}
}
