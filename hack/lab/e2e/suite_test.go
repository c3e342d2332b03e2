//go:build e2e

package e2e

import (
	"context"
	"fmt"
	"net"
	"slices"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sync/errgroup"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"

	"github.com/open-local/open-local/hack/lab/cluster"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
)

// installedIn is the namespace that open-local runs in.
const installedIn = "kube-system"

// TestOpenLocal runs every case on a cluster that no other case uses at the time:
// as many at once as there are labs.
func TestOpenLocal(t *testing.T) {
	labs := newLabs(t)
	for _, c := range []struct {
		name string
		run  func(*bench)
	}{
		{"data survives the pod", dataSurvivesThePod},
		{"xfs is xfs", xfsIsXFS},
		{"a raw block volume shows no former tenant's data", blockIsRawAndEmpty},
		{"two claims that fit two groups only one way both fit", claimsThatFitOneWay},
		{"100M, one byte and other odd sizes are rounded to extents", oddSizes},
		{"a claim larger than any group waits with a reason and goes on when a disk is added", tooLargeWaitsForSpace},
		{"pods of one node share a volume", podsOfANodeShareAVolume},
		{"a claim of the same name again and again is counted once", sameNameAgain},
		{"wrong classes wait with the reason", wrongClasses},
		{"a wrong class that binds at once fails with the reason", wrongClassesBoundAtOnce},
		{"a device with data on it is left alone and named", deviceWithDataIsLeftAlone},
		{"every disk says who it is and why it is not offered, whatever it is called", disksSayWhoTheyAre},
		{"what a spec gets wrong is told, and nothing is done", mistakesAreTold},
		{"a group takes new disks, grows with them and outlives one that is gone", groupsFollowTheirDisks},
		{"a disk with data is used again once, when the spec says what is on it", diskIsUsedAgainOnce},
		{"a disk goes to one claim whole, is wiped, and is found under any name", wholeDisks},
		{"a mount point goes to one claim, and is emptied and nothing beyond it", wholeMountPoints},
		{"disks that swap their names across a reboot lose and mix nothing", swappedDisksMixNothing},
		{"disks of volumes that swap their names across a reboot lose and mix nothing", swappedWholeDisksMixNothing},
		{"twenty pods at once fill a node to the last extent", burstFillsANode},
		{"pods that race for room run as far as it goes and the others follow", racersShareWhatFits},
		{"a burst goes on when the leading extender is killed in its midst", extenderDiesAmidABurst},
		{"a snapshot in the making keeps its room when the leading extender is killed", extenderDiesAmidASnapshot},
		{"a second scheduler places pods that ask for it", secondScheduler},
		{"the scheduler asks over TLS, and nobody without its certificate is answered", schedulerAsksOverTLS},
		{"everything of open-local dies amid twenty creates and nothing leaks", killedAmidCreates},
		{"volumes grow while they are used and while they are not", volumesGrow},
		{"growth beyond the group says both numbers, does no harm and can be taken back", growthBeyondTheGroup},
		{"stripes need several disks with room, and growing keeps them", stripedVolumes},
		{"snapshots and what is restored of them outlive their claims", snapshotsOutliveTheirClaims},
		{"a snapshot can be read without being copied", snapshotsToReadOnly},
		{"a snapshot grows as fast as its volume is rewritten", snapshotsGrowInTime},
		{"in a full group a snapshot is lost and nothing else", snapshotsInAFullGroup},
		{"clones of volumes in use are volumes of their own", clonesOfVolumesInUse},
		{"copies that are interrupted are finished, and hold up nobody", interruptedCopies},
		{"limits hold within 5 %, for all pods of a volume together", limitsHold},
		{"limits change while pods run, and outlive plugin and node", limitsChangeAndStay},
		{"inline volumes are counted, limited and gone with their pods", inlineVolumes},
		{"inline volumes leave nothing after crashes", inlineVolumesAfterCrashes},
		{"hostile attributes are refused", hostileAttributes},
		{"generic ephemeral volumes come and go with their pods", genericEphemeralVolumes},
		{"options of mkfs, binding at once, retaining", whatClassesSay},
		{"a volume that is stuck, failing or read-only is named within a minute", sickVolumesAreNamed},
		{"a lost volume is not made anew", lostVolumesAreNotMadeAnew},
		{"a reboot keeps the data and mounts come back", rebootKeepsData},
		{"a power cut keeps what was synced", powerCutKeepsData},
		{"a node that is deleted and comes back shows its volumes as orphans, which can be adopted and removed", orphansOfANodeThatCameBack},
		{"disks and a mount point of a node that came back are orphans, which can be adopted and are wiped when they are removed", wholeOrphans},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			c.run(labs.take(t).begin(t))
		})
	}
}

// A suite is the cluster that the cases run on.
type suite struct {
	lab   node
	disks *cluster.Cluster // what is done to the disks of the nodes
	plane plane
	kube  kubernetes.Interface
	local versioned.Interface
	other dynamic.Interface // kinds whose types are not at hand
	nodes []string
	// kubectl is run as the cluster's administrator, for what needs more than requests.
	kubectl func(ctx context.Context, args ...string) (string, error)
	// openLocal is run as the administrator, on the machine of the tests.
	openLocal func(ctx context.Context, args ...string) (string, error)
	// install brings the chart to these values, and others to what cases have.
	install func(ctx context.Context, values ...string) (string, error)
}

// node is what the cases do to the nodes of the lab.
type node interface {
	Exec(ctx context.Context, node string, argv ...string) (string, error)
	Reboot(ctx context.Context, node string) error
	Kill(ctx context.Context, node string) error
	Start(ctx context.Context, node string) error
}

// plane is what the cases do to the control plane of the lab, and from its network.
type plane interface {
	Dir() string
	SchedulerConfig() (string, error)
	ConfigureScheduler(ctx context.Context, config string) error
	Dial(ctx context.Context, network, address string) (net.Conn, error)
}

// holdings are the volume groups with their free extents, the logical volumes, the
// mounts of volumes, the limits of devices, the disks with what is on those that are to
// spare, and what volumes have them, by node.
type holdings map[string][]string

func (s *suite) holdings(t *testing.T) holdings {
	t.Helper()
	have, err := s.look(t.Context())
	if err != nil {
		t.Fatalf("looking at the nodes: %v", err)
	}
	return have
}

func (s *suite) look(ctx context.Context) (holdings, error) {
	const question = `set -e
vgs --noheadings -o vg_name,vg_extent_count,vg_free_count
lvs --noheadings --all -o vg_name,lv_name,lv_size
grep kubernetes.io/csi /proc/1/mounts || :
cat ` + limitsFile + `
ls /dev/sd* /dev/ubd* 2>/dev/null || :
ls -A /mnt /mnt/open-local /var/lib/open-local/exclusive 2>/dev/null || :
wipefs -i -O DEVICE,TYPE ` + spareDisk + " " + oneDisk + " " + otherDisk
	have := make([][]string, len(s.nodes))
	group, ctx := errgroup.WithContext(ctx)
	for i, node := range s.nodes {
		group.Go(func() error {
			said, err := s.lab.Exec(ctx, node, "sh", "-c", question)
			if err != nil {
				return fmt.Errorf("asking %s what it holds: %w", node, err)
			}
			for line := range strings.Lines(said) {
				have[i] = append(have[i], strings.Join(strings.Fields(line), " "))
			}
			slices.Sort(have[i])
			return nil
		})
	}
	if err := group.Wait(); err != nil {
		return nil, err
	}
	all := holdings{}
	for i, node := range s.nodes {
		all[node] = have[i]
	}
	return all, nil
}

// freeExtents returns how many extents of a group are free on a node.
func (b *bench) freeExtents(node, group string) int {
	b.Helper()
	said, err := b.lab.Exec(b.Context(), node, "vgs", "--noheadings", "-o", "vg_free_count", group)
	b.must(err, "asking %s for its free extents", node)
	n, err := strconv.Atoi(strings.TrimSpace(said))
	b.must(err, "reading the free extents of %s", node)
	return n
}

// noVolumes complains while a volume of the case exists on any node.
func (b *bench) noVolumes(ctx context.Context) (string, error) {
	volumes, err := b.kube.CoreV1().PersistentVolumes().List(ctx, metav1.ListOptions{})
	if err != nil {
		return "", err
	}
	for _, pv := range volumes.Items {
		if pv.Spec.ClaimRef != nil && pv.Spec.ClaimRef.Namespace == b.ns {
			return "volume " + pv.Name + " is still there", nil
		}
	}
	return "", nil
}
