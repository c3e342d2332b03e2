package main

import (
	"cmp"
	"testing"
	"time"

	"github.com/spf13/pflag"

	"github.com/open-local/open-local/pkg/agent"
)

func TestAgentFlags(t *testing.T) {
	for name, test := range map[string]struct {
		args      []string
		node      string
		pattern   string // the default when empty
		interval  time.Duration
		heartbeat time.Duration
		fails     bool
	}{
		"nothing but the environment": {node: "from-env", interval: 5 * time.Minute, heartbeat: 5 * time.Minute},
		"a name and durations":        {args: []string{"--node-name=n1", "--interval=90s", "--heartbeat=1m30s"}, node: "n1", interval: 90 * time.Second, heartbeat: 90 * time.Second},
		"the flags of the first open-local": {
			args: []string{"--nodename=n1", "--interval=60", "--path.sysfs=/host/sys", "--path.mount=/mnt/open-local/", "--lvname=x", "--initconfig=open-local", "--regexp=^vd[a-z]$"},
			node: "n1", pattern: "^vd[a-z]$", interval: time.Minute, heartbeat: 5 * time.Minute,
		},
		"another pattern of devices":    {args: []string{"--device-pattern=sd[a-z]"}, node: "from-env", pattern: "sd[a-z]", interval: 5 * time.Minute, heartbeat: 5 * time.Minute},
		"a pattern that is none":        {args: []string{"--device-pattern=("}, fails: true},
		"a duration that is none":       {args: []string{"--interval=soon"}, fails: true},
		"a duration of no time":         {args: []string{"--interval=0"}, fails: true},
		"a name that is empty":          {args: []string{"--node-name="}, fails: true},
		"a host root that is not whole": {args: []string{"--host-root=host"}, fails: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Setenv("KUBE_NODE_NAME", "")
			t.Setenv("NODE_NAME", "from-env")
			var o agentOptions
			flags := pflag.NewFlagSet("agent", pflag.ContinueOnError)
			flags.SetOutput(t.Output())
			o.addFlags(flags)
			err := flags.Parse(test.args)
			if err == nil {
				err = o.Validate()
			}
			if (err != nil) != test.fails {
				t.Fatalf("error %v, want one: %v", err, test.fails)
			}
			if test.fails {
				return
			}
			if want := cmp.Or(test.pattern, agent.DefaultPattern); o.Pattern != want {
				t.Errorf("pattern %q, want %q", o.Pattern, want)
			}
			if o.Node != test.node || o.Interval != test.interval || o.Heartbeat != test.heartbeat {
				t.Errorf("node %q, interval %s, heartbeat %s", o.Node, o.Interval, o.Heartbeat)
			}
		})
	}
}
