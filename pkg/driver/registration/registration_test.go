package registration

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	registerapi "k8s.io/kubelet/pkg/apis/pluginregistration/v1"
	testingclock "k8s.io/utils/clock/testing"
)

// ask asks for the plugin's info as the kubelet does, until there is an answer.
func ask(t *testing.T, path string) (registerapi.RegistrationClient, *registerapi.PluginInfo) {
	t.Helper()
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	client := registerapi.NewRegistrationClient(conn)
	info, err := client.GetInfo(t.Context(), &registerapi.InfoRequest{}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return client, info
}

func TestTheKubeletFindsTheDriver(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "local.csi.aliyun.com-reg.sock")
	stale, err := Listen(t.Context(), path)
	if err != nil {
		t.Fatal(err)
	}
	stale.(interface{ SetUnlinkOnClose(bool) }).SetUnlinkOnClose(false)
	if err := stale.Close(); err != nil {
		t.Fatal(err)
	}

	clock := testingclock.NewFakeClock(time.Now())
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- Run(ctx, Options{Driver: "local.csi.aliyun.com", Endpoint: "/plugins/csi.sock", Dir: dir, Clock: clock})
	}()
	client, info := ask(t, path)
	got := []string{info.GetType(), info.GetName(), info.GetEndpoint()}
	if diff := cmp.Diff([]string{"CSIPlugin", "local.csi.aliyun.com", "/plugins/csi.sock"}, got); diff != "" {
		t.Errorf("info (-want +got):\n%s", diff)
	}
	for _, registered := range []bool{true, false} {
		if _, err := client.NotifyRegistrationStatus(ctx, &registerapi.RegistrationStatus{PluginRegistered: registered, Error: "why"}); err != nil {
			t.Error(err)
		}
	}

	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	clock.Step(checkEvery)
	if _, again := ask(t, path); again.GetName() != info.GetName() {
		t.Errorf("registered anew as %s", again.GetName())
	}

	cancel()
	if err := <-ended; err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestASocketNeverReplacesAFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := Listen(t.Context(), path); err == nil {
		t.Error("a file was replaced by a socket")
	}
	if content, err := os.ReadFile(path); err != nil || string(content) != "precious" {
		t.Errorf("the file holds %q, %v", content, err)
	}
}
