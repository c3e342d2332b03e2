package chart

import (
	"testing"

	celgo "github.com/google/cel-go/cel"
	admissionv1 "k8s.io/api/admissionregistration/v1"
	"k8s.io/apiserver/pkg/admission/plugin/cel"
	"k8s.io/apiserver/pkg/cel/environment"
)

// expression is CEL as the API server compiles it in a policy.
type expression struct{ text string }

func (e expression) GetExpression() string      { return e.text }
func (e expression) ReturnTypes() []*celgo.Type { return []*celgo.Type{celgo.BoolType} }

func TestANodeWritesOnlyItsOwnReport(t *testing.T) {
	all := install(t, nil)
	policy := get[*admissionv1.ValidatingAdmissionPolicy](t, all, "open-local-agent")
	binding := get[*admissionv1.ValidatingAdmissionPolicyBinding](t, all, "open-local-agent")
	if binding.Spec.PolicyName != policy.Name || binding.Spec.ValidationActions[0] != admissionv1.Deny {
		t.Errorf("the policy is bound as %+v", binding.Spec)
	}
	concerns := compile(t, policy.Spec.MatchConditions[0].Expression)
	permits := compile(t, policy.Spec.Validations[0].Expression)

	const agent = "system:serviceaccount:kube-system:open-local-agent"
	const nodeKey = "authentication.kubernetes.io/node-name"
	for name, test := range map[string]struct {
		user      string
		extra     map[string][]string
		writes    string
		concerned bool
		permitted bool
	}{
		"an agent writes the report of its node": {agent, map[string][]string{nodeKey: {"n1"}}, "n1", true, true},
		"not that of another":                    {agent, map[string][]string{nodeKey: {"n1"}}, "n2", true, false},
		"nor with a token of no node":            {agent, map[string][]string{"other": {"n1"}}, "n1", true, false},
		"nor with a token that says nothing":     {agent, nil, "n1", true, false},
		"the controller is none of its business": {"system:serviceaccount:kube-system:open-local-controller", nil, "n1", false, false},
		"nor an administrator":                   {"admin", nil, "n1", false, false},
		"nor an account of the same name elsewhere": {
			"system:serviceaccount:default:open-local-agent", map[string][]string{nodeKey: {"n1"}}, "n1", false, true,
		},
	} {
		t.Run(name, func(t *testing.T) {
			user := map[string]any{"username": test.user}
			if test.extra != nil {
				user["extra"] = test.extra
			}
			request := map[string]any{"request": map[string]any{"name": test.writes, "userInfo": user}}
			if got := evaluate(t, concerns, request); got != test.concerned {
				t.Errorf("the policy is concerned: %v", got)
			}
			if got := evaluate(t, permits, request); got != test.permitted {
				t.Errorf("the policy permits it: %v", got)
			}
		})
	}
}

func TestThePolicyFollowsNameAndNamespace(t *testing.T) {
	all := install(t, values{"name": "yoda", "namespace": "storage"})
	policy := get[*admissionv1.ValidatingAdmissionPolicy](t, all, "yoda-agent")
	want := "request.userInfo.username == 'system:serviceaccount:storage:yoda-agent'"
	if got := policy.Spec.MatchConditions[0].Expression; got != want {
		t.Errorf("it concerns %s, want %s", got, want)
	}
}

func compile(t *testing.T, text string) celgo.Program {
	t.Helper()
	compiler := cel.NewCompiler(environment.MustBaseEnvSet(environment.DefaultCompatibilityVersion()))
	result := compiler.CompileCELExpression(expression{text}, cel.OptionalVariableDeclarations{}, environment.NewExpressions)
	if result.Error != nil {
		t.Fatalf("compiling %s: %v", text, result.Error)
	}
	return result.Program
}

func evaluate(t *testing.T, program celgo.Program, variables map[string]any) bool {
	t.Helper()
	value, _, err := program.Eval(variables)
	if err != nil {
		t.Fatal(err)
	}
	return value.Value().(bool)
}
