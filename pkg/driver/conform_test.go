package driver_test

import (
	"context"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"google.golang.org/grpc"

	"github.com/open-local/open-local/pkg/capacity"
)

// leftOut are the reasons for which the conformance suite leaves cases out, twice
// as often as it has such cases. Each is something that the driver does not say it
// can do; the one without a reason is disabled in the suite itself.
var leftOut = map[string]int{
	"": 2,
	"Controller Publish, UnpublishVolume not supported": 4,
	"ControllerPublishVolume not supported":             14,
	"ControllerUnpublishVolume not supported":           2,
	"GroupControllerService not supported":              12,
}

// conform runs the conformance suite of CSI, once with file systems and once with
// block devices.
func conform(t *testing.T, r *rig, size capacity.Bytes) {
	t.Helper()
	for _, access := range []string{"mount", "block"} {
		config := sanity.NewTestConfig()
		config.Address = "passthrough:///csi"
		config.DialOptions = append(config.DialOptions, lateDialer(r.socket))
		config.TargetPath = filepath.Join(t.TempDir(), "target")
		config.StagingPath = filepath.Join(t.TempDir(), "staging")
		config.TestVolumeSize, config.TestVolumeExpandSize = int64(size), int64(2*size)
		config.TestVolumeParameters = map[string]string{"volumeType": "LVM"}
		config.TestVolumeMutableParameters = map[string]string{"bps": "1Mi", "iops": "max"}
		config.TestVolumeAccessType = access
		config.IdempotentCount = 3
		suite := sanity.GinkgoTest(&config)
		t.Cleanup(suite.Finalize)
	}
	passed, skipped := 0, map[string]int{}
	ginkgo.ReportAfterSuite("what was left out", func(report ginkgo.Report) {
		for _, spec := range report.SpecReports.WithLeafNodeType(types.NodeTypeIt) {
			switch spec.State {
			case types.SpecStatePassed:
				passed++
			case types.SpecStateSkipped, types.SpecStatePending:
				skipped[spec.Failure.Message]++
			}
		}
	})
	gomega.RegisterFailHandler(ginkgo.Fail)
	suite, reporter := ginkgo.GinkgoConfiguration()
	reporter.Succinct = true
	ginkgo.RunSpecs(t, "CSI conformance", suite, reporter)

	t.Logf("conformance: %d cases passed, left out are %v", passed, skipped)
	if diff := cmp.Diff(leftOut, skipped); diff != "" {
		t.Errorf("left out (-want +got):\n%s", diff)
	}
	if passed < 150 {
		t.Errorf("only %d cases passed", passed)
	}
}

// lateDialer dials a Unix socket a moment after it is told to. The suite asks for
// the state of a connection once it has begun to dial and then waits for the state to
// change: on a busy machine for ever, if the connection is ready before it asks.
func lateDialer(socket string) grpc.DialOption {
	return grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) {
		select {
		case <-time.After(300 * time.Millisecond):
		case <-ctx.Done():
		}
		return (&net.Dialer{}).DialContext(ctx, "unix", socket)
	})
}
