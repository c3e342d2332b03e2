package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/open-local/open-local/pkg/extender"
)

// explainOptions configures explain.
type explainOptions struct {
	kubeconfig, context string
	namespace, service  string // of the extender
	port                uint16
	all                 bool
	output              string
}

func explainCommand() *cobra.Command {
	var o explainOptions
	cmd := &cobra.Command{
		Use:   "explain",
		Short: "Say why a pod waits for its volumes",
		Args:  cobra.NoArgs,
	}
	pod := &cobra.Command{
		Use:   "pod NAMESPACE/NAME",
		Short: "Say for every node what the pod's volumes want there, and what the node has",
		Long: `Asks the scheduler extender where the volumes of a pod fit at this moment.
The question goes through the API server, so it needs the right to get services/proxy
in the namespace of the extender, and nothing else.

Under the name kubectl-open_local in your PATH this program is a plugin of kubectl:
kubectl open-local explain pod NAMESPACE/NAME`,
		Example: "  open-local explain pod default/db-0",
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.explain(cmd.Context(), cmd.OutOrStdout(), args[0])
		},
	}
	o.addFlags(pod.Flags())
	cmd.AddCommand(pod)
	return cmd
}

func (o *explainOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file (default: as kubectl)")
	flags.StringVar(&o.context, "context", "", "context of the kubeconfig (default: the current one)")
	flags.StringVar(&o.namespace, "extender-namespace", "kube-system", "namespace of the scheduler extender")
	flags.StringVar(&o.service, "extender-service", "open-local-scheduler-extender", "Service of the scheduler extender")
	flags.Uint16Var(&o.port, "extender-port", 23000, "port of the Service")
	flags.BoolVar(&o.all, "all", false, "show every node, not the first 20")
	flags.StringVarP(&o.output, "output", "o", "", "json prints the whole answer")
}

// explain asks, and prints the answer.
func (o *explainOptions) explain(ctx context.Context, out io.Writer, pod string) error {
	namespace, name, ok := strings.Cut(pod, "/")
	if !ok || namespace == "" || name == "" || strings.Contains(name, "/") {
		return fmt.Errorf("pod %q is not of the form NAMESPACE/NAME", pod)
	}
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("output %q is not json", o.output)
	}
	answer, err := o.ask(ctx, extender.ExplainPath+"/"+namespace+"/"+name)
	if err != nil {
		return fmt.Errorf("asking the scheduler extender about pod %s: %w", pod, err)
	}
	if o.output == "json" {
		_, err := fmt.Fprintln(out, string(answer))
		return err
	}
	var said extender.Explanation
	if err := json.Unmarshal(answer, &said); err != nil {
		return fmt.Errorf("reading the answer of the scheduler extender: %w", err)
	}
	return o.print(out, &said)
}

// ask gets the path from the extender, through the API server.
func (o *explainOptions) ask(ctx context.Context, path string) ([]byte, error) {
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.context}).ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("finding the API server: %w", err)
	}
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, err
	}
	body, err := client.CoreV1().RESTClient().Get().Namespace(o.namespace).Resource("services").SubResource("proxy").
		Name(fmt.Sprintf("http:%s:%d", o.service, o.port)).Suffix(path).DoRaw(ctx)
	if err != nil && len(body) > 0 {
		return nil, errors.New(strings.TrimSpace(string(body))) // in the extender's own words
	}
	return body, err
}

// shownNodes is how many nodes are shown unless all are asked for.
const shownNodes = 20

func (o *explainOptions) print(out io.Writer, said *extender.Explanation) error {
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	line := func(format string, args ...any) { _, _ = fmt.Fprintf(w, format+"\n", args...) } // Flush returns the error
	line("Pod %s%s", said.Pod, when(said.Node != "", " on node "+said.Node))
	if said.Note != "" {
		line("%s", said.Note)
		return w.Flush()
	}
	line("\nWANTS\tSIZE\tWHERE")
	for _, c := range said.Claims {
		line("%s\t%s\t%s", c.Name, c.Size, where(c))
	}
	fits := 0
	for i := range said.Nodes {
		if said.Nodes[i].Fits {
			fits++
		}
	}
	line("\n%d of %d nodes have room for all of it", fits, len(said.Nodes))
	line("\nNODE\tROOM\tVOLUME GROUPS")
	nodes := slices.Clone(said.Nodes)
	slices.SortStableFunc(nodes, func(a, b extender.ExplainedVerdict) int { // those that came nearest first
		return cmp.Or(rank(a)-rank(b), cmp.Compare(a.Node, b.Node))
	})
	for i, node := range nodes {
		if i == shownNodes && !o.all {
			line("and %d more nodes: --all shows them", len(nodes)-i)
			break
		}
		line("%s\t%s\t%s", node.Node, cmp.Or(node.Reason, "yes"), groups(node.Groups))
	}
	return w.Flush()
}

// rank orders verdicts by how near the node came.
func rank(v extender.ExplainedVerdict) int {
	switch {
	case v.Fits:
		return 0
	case !v.Final:
		return 1
	}
	return 2
}

func when(condition bool, text string) string {
	if condition {
		return text
	}
	return ""
}

// where says where a claim may go.
func where(c extender.ExplainedClaim) string {
	var parts []string
	for _, part := range []struct{ word, value string }{
		{"vg", c.Group}, {"medium", string(c.Media)}, {"node", c.Node}, {"layout", c.Layout}, {"no", when(c.WholeDisk, "partition")},
	} {
		if part.value != "" {
			parts = append(parts, part.word+" "+part.value)
		}
	}
	return cmp.Or(strings.Join(parts, ", "), "any volume group")
}

// groups says what a node has.
func groups(all []extender.ExplainedGroup) string {
	var parts []string
	for _, g := range all {
		part := fmt.Sprintf("%s: %s of %s free", g.Name, g.Free, g.Size)
		if g.Held > 0 {
			part += fmt.Sprintf(", %s held for other pods", g.Held)
		}
		if g.Trouble != "" {
			part += ", " + g.Trouble
		}
		parts = append(parts, part)
	}
	return cmp.Or(strings.Join(parts, "; "), "none")
}
