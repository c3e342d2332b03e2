package driver_test

import (
	"context"
	"net"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
	"github.com/onsi/gomega"
	"google.golang.org/grpc"

	"github.com/open-local/open-local/pkg/capacity"
)

// leftOut are the reasons for which the conformance suite leaves cases out, how often
// (with file systems and with block devices), and why that is right.
var leftOut = map[string]struct {
	times int
	why   string
}{
	"": {2, "disabled in the suite itself"},
	"Controller Publish, UnpublishVolume not supported": {4, noAttaching},
	"ControllerPublishVolume not supported":             {14, noAttaching},
	"ControllerUnpublishVolume not supported":           {2, noAttaching},
	"GroupControllerService not supported":              {12, "snapshots of several volumes at once are not offered"},
}

const noAttaching = "a local volume is on its node already: there is nothing to attach (attachRequired: false)"

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
	passed, skipped := 0, map[string][]string{} // the cases by what the suite says
	ginkgo.ReportAfterSuite("what was left out", func(report ginkgo.Report) {
		for _, spec := range report.SpecReports.WithLeafNodeType(types.NodeTypeIt) {
			switch spec.State {
			case types.SpecStatePassed:
				passed++
			case types.SpecStateSkipped, types.SpecStatePending:
				skipped[spec.Failure.Message] = append(skipped[spec.Failure.Message], spec.FullText())
			}
		}
	})
	gomega.RegisterFailHandler(ginkgo.Fail)
	suite, reporter := ginkgo.GinkgoConfiguration()
	reporter.Succinct = true
	ginkgo.RunSpecs(t, "CSI conformance", suite, reporter)

	t.Logf("conformance: %d cases passed", passed)
	for said, cases := range skipped {
		t.Logf("conformance: %d cases left out, %q: %s\n%s", len(cases), said, leftOut[said].why, strings.Join(cases, "\n"))
		if want := leftOut[said].times; len(cases) != want {
			t.Errorf("%q: %d cases are left out, want %d", said, len(cases), want)
		}
	}
	if len(skipped) != len(leftOut) {
		t.Errorf("cases are left out for %d reasons, want %d", len(skipped), len(leftOut))
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
