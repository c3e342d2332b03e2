package main

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/clientcmd"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	"github.com/open-local/open-local/pkg/directory"
	"github.com/open-local/open-local/pkg/volume"
)

// orphansOptions configures orphans. All its commands work through the API server, as the
// person that runs them.
type orphansOptions struct {
	kubeconfig, context string
	driver              string
	output              string
	adoption
	yes  bool
	wait time.Duration

	core     kubernetes.Interface
	storage  versioned.Interface
	contents dynamic.NamespaceableResourceInterface // VolumeSnapshotContents
}

func orphansCommand() *cobra.Command {
	var o orphansOptions
	cmd := &cobra.Command{
		Use:   "orphans",
		Short: "Volumes on the nodes that no PersistentVolume names",
		Long: `A volume stays on the disks of a node that is removed from the cluster. When the node
returns, what no PersistentVolume names any more is an orphan: it takes room and is kept
until somebody adopts or removes it. What is listed is what the agents report.`,
		Args:              cobra.NoArgs,
		PersistentPreRunE: func(*cobra.Command, []string) error { return o.connect() },
	}
	list := &cobra.Command{
		Use:   "list [NODE]",
		Short: "Print the orphans of all nodes, or of one",
		Args:  cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.list(cmd.Context(), cmd.OutOrStdout(), strings.Join(args, ""))
		},
	}
	adopt := &cobra.Command{
		Use:     "adopt NODE VOLUME",
		Short:   "Make a PersistentVolume for an orphan, so that a claim can use its data again",
		Example: "  open-local orphans adopt n1 local-5b1b7e2c-… --claim default/data",
		Args:    cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.adopt(cmd.Context(), cmd.OutOrStdout(), args[0], args[1])
		},
	}
	remove := &cobra.Command{
		Use:   "remove NODE VOLUME",
		Short: "Remove an orphan and the data on it",
		Long: `Makes a PersistentVolume for the orphan that counts as released and is to be deleted,
and waits until csi-provisioner and the node have done so: the way in which every volume
is deleted. The node refuses what is in use, what is protected and what is not tagged as
this volume.`,
		Args: cobra.ExactArgs(2),
		RunE: func(cmd *cobra.Command, args []string) error {
			return o.remove(cmd.Context(), cmd.InOrStdin(), cmd.OutOrStdout(), args[0], args[1])
		},
	}
	o.addFlags(cmd.PersistentFlags())
	list.Flags().StringVarP(&o.output, "output", "o", "", "json prints all that is known")
	o.adoption.addFlags(adopt.Flags())
	remove.Flags().BoolVar(&o.yes, "yes", false, "do not ask")
	remove.Flags().DurationVar(&o.wait, "wait", time.Minute, "how long to wait until it is gone")
	cmd.AddCommand(list, adopt, remove)
	return cmd
}

func (o *orphansOptions) addFlags(flags *pflag.FlagSet) {
	flags.StringVar(&o.kubeconfig, "kubeconfig", "", "kubeconfig file (default: as kubectl)")
	flags.StringVar(&o.context, "context", "", "context of the kubeconfig (default: the current one)")
	flags.StringVar(&o.driver, "driver", volume.DefaultDriver, "name of the CSI driver")
}

// connect reaches the API server, unless that was done already.
func (o *orphansOptions) connect() error {
	if o.core != nil {
		return nil
	}
	rules := clientcmd.NewDefaultClientConfigLoadingRules()
	rules.ExplicitPath = o.kubeconfig
	config, err := clientcmd.NewNonInteractiveDeferredLoadingClientConfig(rules, &clientcmd.ConfigOverrides{CurrentContext: o.context}).ClientConfig()
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	if o.core, err = kubernetes.NewForConfig(config); err != nil {
		return err
	}
	if o.storage, err = versioned.NewForConfig(config); err != nil {
		return err
	}
	other, err := dynamic.NewForConfig(config)
	if err != nil {
		return err
	}
	o.contents = other.Resource(directory.ContentResource)
	return nil
}

// A listedOrphan is an orphan and where it is.
type listedOrphan struct {
	Node string `json:"node"`
	v1alpha1.Orphan
	Elsewhere bool `json:"otherCluster,omitempty"` // it was made in another cluster
}

// list prints the orphans of one node, or of all.
func (o *orphansOptions) list(ctx context.Context, out io.Writer, node string) error {
	if o.output != "" && o.output != "json" {
		return fmt.Errorf("output %q is not json", o.output)
	}
	reports, err := o.reports(ctx, node)
	if err != nil {
		return err
	}
	cluster := o.cluster(ctx)
	all := []listedOrphan{}
	for i := range reports {
		for _, orphan := range reports[i].Status.Orphans {
			elsewhere := cluster != "" && orphan.Cluster != "" && orphan.Cluster != cluster
			all = append(all, listedOrphan{Node: reports[i].Name, Orphan: orphan, Elsewhere: elsewhere})
		}
	}
	snapshots, err := o.snapshots(ctx, reports, time.Now())
	if err != nil {
		return err
	}
	all = append(all, snapshots...)
	if o.output == "json" {
		encoder := json.NewEncoder(out)
		encoder.SetIndent("", "  ")
		return encoder.Encode(all)
	}
	return printOrphans(out, all)
}

// reports returns what the agents report.
func (o *orphansOptions) reports(ctx context.Context, node string) ([]v1alpha1.NodeLocalStorage, error) {
	ours := o.storage.CsiV1alpha1().NodeLocalStorages()
	if node != "" {
		nls, err := ours.Get(ctx, node, metav1.GetOptions{})
		if err != nil {
			return nil, fmt.Errorf("reading the report of node %q: %w", node, err)
		}
		return []v1alpha1.NodeLocalStorage{*nls}, nil
	}
	all, err := ours.List(ctx, metav1.ListOptions{})
	if err != nil {
		return nil, fmt.Errorf("reading the reports of all nodes: %w", err)
	}
	return all.Items, nil
}

// cluster returns the identity of this cluster, or "" where it may not be read.
func (o *orphansOptions) cluster(ctx context.Context) string {
	system, err := o.core.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		return ""
	}
	return string(system.UID)
}

const unknown = "-"

func printOrphans(out io.Writer, all []listedOrphan) error {
	if len(all) == 0 {
		_, err := fmt.Fprintln(out, "no orphans")
		return err
	}
	w := tabwriter.NewWriter(out, 0, 0, 3, ' ', 0)
	_, _ = fmt.Fprintln(w, "NODE\tWHERE\tVOLUME\tSIZE\tFILE SYSTEM\tMADE\tCLAIM\tWHY") // Flush returns the error
	for _, orphan := range all {
		made, why := unknown, orphan.Message
		if orphan.CreatedAt != nil {
			made = orphan.CreatedAt.UTC().Format("2006-01-02 15:04")
		}
		if orphan.Elsewhere {
			why = "made in another cluster; " + why
		}
		_, _ = fmt.Fprintf(w, "%s\t%s\t%s\t%s\t%s\t%s\t%s\t%s\n", orphan.Node, cmp.Or(orphan.VGName, orphan.Path), orphan.VolumeID,
			capacity.Bytes(orphan.Total), cmp.Or(orphan.FsType, unknown), made, cmp.Or(orphan.Claim, unknown), why)
	}
	return w.Flush()
}

// find returns the orphan, after making sure that it still is one.
func (o *orphansOptions) find(ctx context.Context, node, id string) (v1alpha1.Orphan, error) {
	reports, err := o.reports(ctx, node)
	if err != nil {
		return v1alpha1.Orphan{}, err
	}
	for _, orphan := range reports[0].Status.Orphans {
		if orphan.VolumeID == id {
			return orphan, o.named(ctx, id)
		}
	}
	return v1alpha1.Orphan{}, fmt.Errorf("volume %q is no orphan of node %s; `open-local orphans list %s` lists those that are", id, node, node)
}

// errNamed says that a PersistentVolume names the volume.
var errNamed = errors.New("it is no orphan any more")

// named asks the API server itself whether a PersistentVolume names the volume, or a claim
// waits for it: reports may be behind.
func (o *orphansOptions) named(ctx context.Context, id string) error {
	for options := (metav1.ListOptions{Limit: 500}); ; {
		volumes, err := o.core.CoreV1().PersistentVolumes().List(ctx, options)
		if err != nil {
			return fmt.Errorf("making sure that no PersistentVolume names volume %s: %w", id, err)
		}
		for i := range volumes.Items {
			pv := &volumes.Items[i]
			if csi := pv.Spec.CSI; csi != nil && csi.Driver == o.driver && csi.VolumeHandle == id {
				return fmt.Errorf("volume %s is named by PersistentVolume %s: %w", id, pv.Name, errNamed)
			}
		}
		if options.Continue = volumes.Continue; options.Continue == "" {
			return o.awaited(ctx, id)
		}
	}
}

// awaited returns an error when there is still a claim that the volume was made for and
// that has no volume yet.
func (o *orphansOptions) awaited(ctx context.Context, id string) error {
	uid := types.UID(volume.ClaimUID(id))
	if uid == "" {
		return nil
	}
	for options := (metav1.ListOptions{Limit: 500}); ; {
		claims, err := o.core.CoreV1().PersistentVolumeClaims(metav1.NamespaceAll).List(ctx, options)
		if err != nil {
			return fmt.Errorf("making sure that no claim waits for volume %s: %w", id, err)
		}
		for i := range claims.Items {
			if c := &claims.Items[i]; c.UID == uid && c.Spec.VolumeName == "" {
				return fmt.Errorf("claim %s/%s waits for volume %s: %w", c.Namespace, c.Name, id, errNamed)
			}
		}
		if options.Continue = claims.Continue; options.Continue == "" {
			return nil
		}
	}
}
