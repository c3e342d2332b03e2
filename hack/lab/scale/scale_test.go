package main

import (
	"strings"
	"testing"
	"time"

	"github.com/open-local/open-local/hack/lab/scale/hollow"
	"github.com/open-local/open-local/hack/lab/scale/meter"
	"github.com/open-local/open-local/hack/lab/scale/plane"
)

func TestEveryNodeHasRoomForWholePodsAndAllForTwiceTheBurst(t *testing.T) {
	for name, args := range map[string][]string{
		"the default":                      nil,
		"five thousand nodes":              {"--nodes", "5000"},
		"three claims on two groups":       {"--nodes", "10", "--claims", "3", "--pods", "7"},
		"more claims than groups and pods": {"--nodes", "3", "--claims", "5", "--pods", "1", "--groups", "4"},
	} {
		t.Run(name, func(t *testing.T) {
			o := parsed(t, args...)
			fleet := hollow.NewFleet(o.shape())
			room := fleet.Room(o.claimSize)
			if room < 2*o.pods*o.claims {
				t.Errorf("there is room for %d claims, the burst has %d", room, o.pods*o.claims)
			}
			if room/o.nodes%o.claims != 0 {
				t.Errorf("a node has room for %d claims, a pod has %d: some is never filled", room/o.nodes, o.claims)
			}
		})
	}
}

func TestEveryMistakeIsNamed(t *testing.T) {
	cmd := command()
	cmd.SetArgs([]string{
		"--nodes", "0", "--pods", "-1", "--claims", "17", "--fill", "101", "--modes", "extender,magic", "--size", "1Mi", "--strategy", "tight",
		"--extender-memory", "much", "--least-share", "some", "--churn", "-1", "--groups", "25", "--classes", "0", "--volumes", "-1",
	})
	err := cmd.ExecuteContext(t.Context())
	for _, flag := range []string{"--nodes", "--pods", "--claims", "--fill", "--modes", "--size", "--strategy", "--extender-memory", "--least-share", "--churn", "--groups", "--classes", "--volumes"} {
		if err == nil || !strings.Contains(err.Error(), flag+" ") && !strings.Contains(err.Error(), flag+":") {
			t.Errorf("%s is not named: %v", flag, err)
		}
	}
}

func TestWhatMustNotBeIsAnError(t *testing.T) {
	fast := phase{name: burst, pods: 100, took: time.Second}
	slow := phase{name: burst, pods: 100, took: 2 * time.Second}
	for name, test := range map[string]struct {
		args    []string
		results []*result
		want    string // part of the error; empty for none
	}{
		"nothing is wrong":                           {nil, []*result{{mode: withExtender, phases: []phase{fast}}}, ""},
		"a promise that a node could not keep":       {nil, []*result{{mode: withExtender, nodesDid: hollow.Counts{Refused: 2}}}, "promised room 2 times"},
		"without an extender nodes may refuse":       {nil, []*result{{mode: withCapacity, nodesDid: hollow.Counts{Refused: 2}}}, ""},
		"a group that is over-committed":             {nil, []*result{{mode: withCapacity, verdict: hollow.Verdict{OverCommitted: []string{"n/g"}}}}, "more was promised than there is: n/g"},
		"a volume that is lost":                      {nil, []*result{{mode: withCapacity, verdict: hollow.Verdict{Lost: []string{"v"}}}}, "volumes are lost: v"},
		"a volume that is left over":                 {nil, []*result{{mode: withCapacity, verdict: hollow.Verdict{Leaked: []string{"v"}}}}, "volumes are left over: v"},
		"pods that are stuck":                        {nil, []*result{{mode: withExtender, phases: []phase{{stuck: []string{"p"}}}}}, "pods are stuck: p"},
		"pods that are late":                         {nil, []*result{{mode: withBoth, phases: []phase{{late: []string{"p"}}}}}, "do not run in time: p"},
		"pods that Kubernetes alone could not place": {nil, []*result{{mode: withCapacity, phases: []phase{{stuck: []string{"p"}}}}}, ""},
		"capacity that was never right":              {nil, []*result{{mode: withCapacity, wrongCapacities: 3}}, "3 published capacities are wrong"},
		"more written than there are volumes": {nil, []*result{{mode: withExtender, requests: map[meter.Request]int{
			{User: plane.Extender, Verb: "patch"}: 2, {User: plane.Controller, Verb: "create"}: 1, {User: plane.Controller, Verb: "get"}: 9, {User: plane.Provision, Verb: "create"}: 9,
		}, nodesDid: hollow.Counts{Made: 2}}}, "wrote 3 times to the API server for 2 volumes"},
		"an extender that takes too much":               {nil, []*result{{mode: withExtender, end: snapshot{usage: map[string]plane.Usage{plane.Extender: {Peak: 400 << 20}}}}}, "419 MB of memory"},
		"an extender that may take that":                {[]string{"--extender-memory", "0"}, []*result{{mode: withExtender, end: snapshot{usage: map[string]plane.Usage{plane.Extender: {Peak: 400 << 20}}}}}, ""},
		"slower than without, and nobody minds":         {nil, []*result{{mode: withExtender, phases: []phase{slow}}, {mode: withCapacity, phases: []phase{fast}}}, ""},
		"slower than without by more than is permitted": {[]string{"--least-share", "90%"}, []*result{{mode: withExtender, phases: []phase{slow}}, {mode: withCapacity, phases: []phase{fast}}}, "50.0 pods a second, less than 90% of the 100.0"},
	} {
		t.Run(name, func(t *testing.T) {
			err := judge(parsed(t, test.args...), test.results)
			if test.want == "" && err != nil || test.want != "" && (err == nil || !strings.Contains(err.Error(), test.want)) {
				t.Errorf("got %v, want %q", err, test.want)
			}
		})
	}
}

// parsed returns the options that a user gives so.
func parsed(t *testing.T, args ...string) options {
	t.Helper()
	var o options
	flags := flagSet(&o)
	if err := flags.Parse(args); err != nil {
		t.Fatal(err)
	}
	if err := o.check(); err != nil {
		t.Fatal(err)
	}
	return o
}
