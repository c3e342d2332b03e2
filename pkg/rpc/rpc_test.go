package rpc

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
	"k8s.io/klog/v2/ktesting"
)

var (
	errGeneral    = errors.New("general")
	errParticular = fmt.Errorf("particular: %w", errGeneral)

	info = &grpc.UnaryServerInfo{FullMethod: "/csi.v1.Node/NodeStageVolume"}
)

func TestTheFirstRowThatFitsGivesTheCode(t *testing.T) {
	table := Table{{errParticular, codes.NotFound}, {errGeneral, codes.Aborted}, {context.Canceled, codes.Canceled}}
	for name, test := range map[string]struct {
		err  error
		want codes.Code
	}{
		"an error of the table, wrapped":    {fmt.Errorf("doing: %w", errGeneral), codes.Aborted},
		"a more particular one":             {fmt.Errorf("doing: %w", errParticular), codes.NotFound},
		"the caller gave up":                {fmt.Errorf("doing: %w", context.Canceled), codes.Canceled},
		"an error that has a code":          {status.Error(codes.Unimplemented, "no"), codes.Unimplemented},
		"an error of the table with a code": {fmt.Errorf("%w: %w", errGeneral, status.Error(codes.Unknown, "no")), codes.Aborted},
		"any other":                         {errors.New("other"), codes.Internal},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := table.Interceptor(t.Context(), nil, info, func(context.Context, any) (any, error) { return nil, test.err })
			if status.Code(err) != test.want || !strings.Contains(err.Error(), test.err.Error()) {
				t.Errorf("got %v, want code %s with the words of %q", err, test.want, test.err)
			}
		})
	}
	if resp, err := table.Interceptor(t.Context(), nil, info, func(context.Context, any) (any, error) { return "fine", nil }); resp != "fine" || err != nil {
		t.Errorf("a success became %v, %v", resp, err)
	}
}

// secret is a request that must not be in any log.
type secret struct{}

func (secret) GetVolumeId() string { return "vol-1" } //nolint:revive // as protobuf spells it
func (secret) String() string      { return "the password" }

func TestTheLogNamesTheCallAndNoSecret(t *testing.T) {
	logger := ktesting.NewLogger(t, ktesting.NewConfig(ktesting.Verbosity(5), ktesting.BufferLogs(true)))
	ctx := klog.NewContext(t.Context(), logger)
	for _, err := range []error{nil, errGeneral} {
		if _, got := Log(ctx, secret{}, info, func(context.Context, any) (any, error) { return nil, err }); !errors.Is(got, err) {
			t.Errorf("got %v, want %v", got, err)
		}
	}
	said := logger.GetSink().(ktesting.Underlier).GetBuffer().String()
	for text, want := range map[string]bool{"Call succeeded": true, "Call failed": true, "NodeStageVolume": true, "vol-1": true, "password": false} {
		if strings.Contains(said, text) != want {
			t.Errorf("the log holds %q: %t, want %t\n%s", text, !want, want, said)
		}
	}
}

func TestAPanicBecomesAnError(t *testing.T) {
	_, err := Recover(t.Context(), nil, info, func(context.Context, any) (any, error) { panic("a bug") })
	if status.Code(err) != codes.Internal || !strings.Contains(err.Error(), "a bug") {
		t.Errorf("got %v", err)
	}
}

func TestCallsAreMeasuredByMethodAndCode(t *testing.T) {
	registry := prometheus.NewRegistry()
	timed := Timed(registry)
	for _, err := range []error{nil, nil, status.Error(codes.Aborted, "busy")} {
		_, _ = timed(t.Context(), nil, info, func(context.Context, any) (any, error) { return nil, err })
	}
	if got, err := testutil.GatherAndCount(registry, "open_local_call_seconds"); err != nil || got != 2 {
		t.Errorf("%d series, %v; want one for OK and one for Aborted", got, err)
	}
}
