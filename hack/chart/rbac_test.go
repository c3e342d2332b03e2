package chart

import (
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	appsv1 "k8s.io/api/apps/v1"
	rbacv1 "k8s.io/api/rbac/v1"
)

// allowed is who may do what: "verbs resource", for everything in a cluster or,
// in brackets, in the release's own namespace only.
var allowed = map[string][]string{
	"open-local-agent": {
		"create,patch events",
		"get pods",
		"get,list,watch nodelocalstorages.csi.aliyun.com",
		"patch nodelocalstorages/status.csi.aliyun.com",
	},
	"open-local-controller": {
		"create,delete,list,patch,watch nodelocalstorages.csi.aliyun.com",
		"create,patch events",
		"list,watch nodelocalstorageinitconfigs.csi.aliyun.com",
		"get,list,watch nodes",
		"list persistentvolumeclaims",
		"list,watch persistentvolumes",
		"[create leases.coordination.k8s.io]",
		"[get,update leases.coordination.k8s.io named open-local-controller]",
	},
	"open-local-scheduler-extender": {
		"create,patch events",
		"list,watch nodelocalstorages.csi.aliyun.com",
		"list,watch nodes",
		"list,watch persistentvolumeclaims",
		"list,watch persistentvolumes",
		"list,watch pods",
		"list,watch storageclasses.storage.k8s.io",
		"[create leases.coordination.k8s.io]",
		"[get,update leases.coordination.k8s.io named open-local-scheduler-extender]",
		"[patch csistoragecapacities.storage.k8s.io named open-local-scheduler-extender]",
	},
	"open-local-csi-controller": {
		"create,delete,get,list,patch,watch persistentvolumes",
		"create,patch events",
		"get namespaces named kube-system",
		"get,list,update,watch persistentvolumeclaims",
		"get,list,watch csinodes.storage.k8s.io",
		"patch persistentvolumeclaims/status",
		"list,watch nodelocalstorages.csi.aliyun.com",
		"get,list,watch nodes",
		"get,list,watch storageclasses.storage.k8s.io",
		"get,list,watch volumeattributesclasses.storage.k8s.io",
		"[create,delete,list,patch,watch csistoragecapacities.storage.k8s.io]",
		"[get deployments.apps named open-local-csi-controller]",
	},
}

// allowedWithSnapshots is what comes to that where the cluster has snapshots.
var allowedWithSnapshots = map[string][]string{
	"open-local-scheduler-extender": {
		"list,watch volumesnapshotclasses.snapshot.storage.k8s.io",
		"list,watch volumesnapshotcontents.snapshot.storage.k8s.io",
	},
	"open-local-csi-controller": {
		"get,list,watch volumesnapshotclasses.snapshot.storage.k8s.io",
		"get,list,update,watch volumesnapshots.snapshot.storage.k8s.io",
		"get,list,patch,update,watch volumesnapshotcontents.snapshot.storage.k8s.io",
		"patch,update volumesnapshotcontents/status.snapshot.storage.k8s.io",
	},
}

func TestWhoMayDoWhat(t *testing.T) {
	with := map[string][]string{}
	for name, rules := range allowed {
		with[name] = slices.Concat(rules, allowedWithSnapshots[name])
	}
	for name, test := range map[string]struct {
		cluster cluster
		want    map[string][]string
	}{
		"a cluster without snapshots": {cluster{}, allowed},
		"a cluster with snapshots":    {cluster{kinds: snapshotKinds}, with},
	} {
		t.Run(name, func(t *testing.T) { wantRules(t, test.cluster.install(t, nil), test.want) })
	}
}

func wantRules(t *testing.T, all objects, want map[string][]string) {
	t.Helper()
	got := map[string][]string{}
	for _, o := range all {
		switch b := o.(type) {
		case *rbacv1.ClusterRoleBinding:
			role := get[*rbacv1.ClusterRole](t, all, b.RoleRef.Name)
			got[account(t, b.Subjects)] = append(got[account(t, b.Subjects)], say(role.Rules)...)
		case *rbacv1.RoleBinding:
			role := get[*rbacv1.Role](t, all, b.RoleRef.Name)
			for _, rule := range say(role.Rules) {
				got[account(t, b.Subjects)] = append(got[account(t, b.Subjects)], "["+rule+"]")
			}
		}
	}
	for _, rules := range []map[string][]string{got, want} {
		for name := range rules {
			slices.Sort(rules[name])
		}
	}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("who may do what (-want +got):\n%s", diff)
	}
	if strings.Contains(strings.Join(slices.Concat(slices.Collect(maps.Values(got))...), ""), "*") {
		t.Error("somebody may do everything")
	}
}

func TestEveryRoleRunsUnderItsOwnAccount(t *testing.T) {
	for _, o := range install(t, nil) {
		account := o.GetName()
		switch w := o.(type) {
		case *appsv1.Deployment:
			account = w.Spec.Template.Spec.ServiceAccountName
		case *appsv1.DaemonSet:
			account = w.Spec.Template.Spec.ServiceAccountName
		}
		if account != o.GetName() {
			t.Errorf("%s runs under account %s", o.GetName(), account)
		}
	}
}

func account(t *testing.T, subjects []rbacv1.Subject) string {
	t.Helper()
	if len(subjects) != 1 || subjects[0].Kind != "ServiceAccount" || subjects[0].Namespace != "kube-system" {
		t.Fatalf("a binding is for %+v", subjects)
	}
	return subjects[0].Name
}

// say puts rules into words, a resource each.
func say(rules []rbacv1.PolicyRule) []string {
	var words []string
	for _, rule := range rules {
		for _, group := range rule.APIGroups {
			for _, resource := range rule.Resources {
				what := strings.Join(slices.Sorted(slices.Values(rule.Verbs)), ",") + " " + resource
				if group != "" {
					what += "." + group
				}
				if len(rule.ResourceNames) > 0 {
					what += " named " + strings.Join(rule.ResourceNames, ",")
				}
				words = append(words, what)
			}
		}
		words = append(words, rule.NonResourceURLs...)
	}
	return words
}
