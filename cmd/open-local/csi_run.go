package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"golang.org/x/sync/errgroup"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"k8s.io/client-go/dynamic"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
	"k8s.io/klog/v2"
	"k8s.io/utils/clock"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/open-local/open-local/pkg/allocator"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockcopy"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/client/clientset/versioned"
	"github.com/open-local/open-local/pkg/devfile"
	"github.com/open-local/open-local/pkg/directory"
	"github.com/open-local/open-local/pkg/driver"
	"github.com/open-local/open-local/pkg/driver/registration"
	"github.com/open-local/open-local/pkg/exclusive"
	"github.com/open-local/open-local/pkg/health"
	"github.com/open-local/open-local/pkg/hostexec"
	"github.com/open-local/open-local/pkg/iolimit"
	"github.com/open-local/open-local/pkg/mounts"
	"github.com/open-local/open-local/pkg/nodeapi"
	"github.com/open-local/open-local/pkg/provision"
	"github.com/open-local/open-local/pkg/rpc"
	"github.com/open-local/open-local/pkg/sweep"
	"github.com/open-local/open-local/pkg/tlsfiles"
	"github.com/open-local/open-local/pkg/wipe"
)

// drainFor is how long calls that run at the end may go on. Kubernetes gives a pod
// 30 seconds.
const drainFor = 25 * time.Second

// csiRun is a running CSI driver.
type csiRun struct {
	o        csiOptions
	registry *prometheus.Registry
	timed    grpc.UnaryServerInterceptor
	storage  versioned.Interface
	core     kubernetes.Interface
	dynamic  dynamic.Interface

	coreConfig *rest.Config // of core

	services driver.Services
	follow   []func(context.Context) // watches, until their context ends
	nodeAPI  *grpc.Server            // of a node
	closers  []func() error
}

func newCSIRun(ctx context.Context, o csiOptions) (*csiRun, error) {
	r := &csiRun{o: o, registry: prometheus.NewRegistry()}
	r.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	r.timed = rpc.Timed(r.registry)
	if err := r.connect(); err != nil {
		return nil, err
	}
	r.services.Identity = &driver.Identity{Driver: o.driver, Version: version, Ready: func() error { return nil }}
	if o.isNode() {
		if err := r.addNode(ctx); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	if o.controls() {
		if err := r.addController(ctx); err != nil {
			return nil, errors.Join(err, r.close())
		}
	}
	return r, nil
}

func (r *csiRun) connect() error {
	config, err := clientcmd.BuildConfigFromFlags("", r.o.kubeconfig)
	if err != nil {
		return fmt.Errorf("finding the API server: %w", err)
	}
	config.UserAgent = "open-local-csi-" + r.o.mode + "/" + version
	if r.storage, err = versioned.NewForConfig(config); err != nil {
		return err
	}
	if r.dynamic, err = dynamic.NewForConfig(config); err != nil {
		return err
	}
	r.coreConfig = rest.CopyConfig(config)
	r.coreConfig.ContentType = "application/vnd.kubernetes.protobuf"
	r.core, err = kubernetes.NewForConfig(r.coreConfig)
	return err
}

func (r *csiRun) tlsFile(name string) string { return filepath.Join(r.o.tlsDir, name) }

// addNode makes the services of a node, and the API that the controller calls.
func (r *csiRun) addNode(ctx context.Context) error {
	serving, err := tlsfiles.Server(r.tlsFile("tls.crt"), r.tlsFile("tls.key"), r.tlsFile("ca.crt"))
	if err != nil {
		return err
	}
	own, err := directory.NewOwn(r.storage, r.o.node)
	if err != nil {
		return err
	}
	prefer, err := allocator.PreferenceNamed(r.o.prefer)
	if err != nil {
		return err
	}
	runner := hostexec.Logged(hostexec.OnHost(r.o.hostRoot))
	host, root := lvmOf(runner, r.o.hostRoot), devfile.Root(r.o.hostRoot)
	mounter := mounts.New(runner, r.o.hostRoot)
	standing := provision.NewStanding()
	logical := &provision.Logical{
		Host: host, Devices: root, Managed: own, Prefer: prefer, Clock: clock.RealClock{}, Standing: standing,
		Copier: blockcopy.New(r.o.hostRoot), FileSystems: mounter, Scratch: filepath.Join(r.o.kubeletDir, "plugins", r.o.driver, "copies"),
		Making: begun.NewVolumes(r.o.hostRoot),
	}
	blocks := blockdev.New(runner, r.o.hostRoot)
	book := exclusive.NewBook(r.o.hostRoot)
	devices := &exclusive.Devices{Book: book, Host: blocks, Wiper: wipe.New(runner, r.o.hostRoot), Zero: exclusive.ZeroOn(root)}
	mountPoints := &exclusive.MountPoints{Book: book, Host: blocks, Mounts: mounter, Root: root}
	volumes := provision.New(ctx, logical,
		provision.NewDevices(devices, book, own, prefer, clock.RealClock{}), provision.NewMountPoints(mountPoints, book, own, prefer))
	r.closers = append(r.closers, func() error { volumes.Close(); return nil })
	remembered := known{standing, book}
	keeper := iolimit.NewKeeper(iolimit.Root(filepath.Join(r.o.hostRoot, "sys/fs/cgroup")), root, remembered)
	before := former{kubelet: filepath.Clean(r.o.kubeletDir), book: book, blocks: blocks, mounts: mounter, devices: root, standing: standing}
	events := recorder(ctx, r.core, "open-local-csi", r.o.node)
	examiner := health.NewExaminer(root, clock.RealClock{})
	watcher, err := health.NewWatcher(health.Options{
		Examiner: examiner, Mounts: mounter, Devices: root, Known: standing, Teller: teller{events, remembered},
		KubeletDir: filepath.Clean(r.o.kubeletDir), Driver: r.o.driver, Registry: r.registry,
	})
	if err != nil {
		return err
	}
	looked := make(chan struct{})
	r.follow = append(r.follow, own.Run, func(ctx context.Context) {
		if recalled(ctx, logical) {
			close(looked)
			before.handOver(ctx, keeper)
		}
	}, func(ctx context.Context) {
		keeper.Run(ctx, clock.RealClock{}, r.o.limitsEvery)
	}, func(ctx context.Context) {
		waitFor(ctx, looked, r.o.healthEvery) // whose the volumes are
		watcher.Run(ctx, clock.RealClock{}, r.o.healthEvery)
	}, func(ctx context.Context) {
		if recalled(ctx, logical) {
			watchSnapshots(volumes, host, r.o.hostRoot, events).Run(ctx)
		}
	})
	r.services.Identity.Ready = own.Ready
	r.services.Node = driver.NewNode(driver.NodeOptions{
		Name: r.o.node, Driver: r.o.driver, Cluster: r.o.cluster, KubeletDir: filepath.Clean(r.o.kubeletDir), Inline: volumes, LVM: host, Devices: devices, MountPoints: mountPoints, Files: root, Formatter: mounter, Mounter: mounter, Meter: root,
		Throttler: keeper, Events: teller{events, remembered},
		Examiner: examiner, Standing: standing,
	})
	sweeper := &sweep.Sweeper{
		Volumes: volumes, Devices: root, Pods: r.core.CoreV1(), Clock: clock.RealClock{},
		Events: events,
	}
	r.follow = append(r.follow, sweeper.Run)
	r.nodeAPI = nodeapi.NewServer(volumes, serving, r.o.clientName, r.timed)
	return nil
}

// addController makes the controller's service, and waits until it knows the cluster.
func (r *csiRun) addController(ctx context.Context) error {
	saveMemory()
	calling, err := tlsfiles.Client(r.tlsFile("tls.crt"), r.tlsFile("tls.key"), r.tlsFile("ca.crt"), r.o.serverName)
	if err != nil {
		return err
	}
	prefer, err := allocator.PreferenceNamed(r.o.prefer)
	if err != nil {
		return err
	}
	pool := nodeapi.NewPool(calling)
	r.closers = append(r.closers, pool.Close)
	where, err := directory.New(directory.Options{
		Kubernetes: r.core, Storage: r.storage, Driver: r.o.driver,
		NodePort: r.o.nodePort, NodeGrace: r.o.nodeGrace, Clock: clock.RealClock{},
		Dial: func(address string) (driver.RemoteNode, error) { return pool.Node(address) },
	})
	if err != nil {
		return err
	}
	if err := r.publish(ctx, where); err != nil {
		return err
	}
	if err := where.Run(ctx); err != nil {
		return err
	}
	options := driver.ControllerOptions{Directory: where, Nodes: where, Snapshots: where, Contents: directory.Contents{Client: r.dynamic}, Prefer: prefer, Driver: r.o.driver, Cluster: r.cluster(ctx)}
	options.LeftBehind = leftBehind(r.core, recorder(ctx, r.core, "open-local-csi", ""), where.Naming)
	if r.o.extender != "" {
		client, err := r.reserver()
		if err != nil {
			return err
		}
		options.Reserver = client
	}
	r.services.Controller = driver.NewController(options)
	return nil
}

// cluster returns the identity of the cluster. It only labels volumes, so volumes
// are made without it where it cannot be read.
func (r *csiRun) cluster(ctx context.Context) string {
	if r.o.cluster != "" {
		return r.o.cluster
	}
	system, err := r.core.CoreV1().Namespaces().Get(ctx, metav1.NamespaceSystem, metav1.GetOptions{})
	if err != nil {
		klog.FromContext(ctx).Error(err, "Volumes will not be tagged with the cluster; name it with --cluster-id")
		return ""
	}
	return string(system.UID)
}

// serve serves everything until ctx ends or one thing fails.
func (r *csiRun) serve(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, follow := range r.follow {
		group.Go(func() error { follow(ctx); return nil })
	}
	listener, err := registration.Listen(ctx, r.o.socket())
	if err != nil {
		return err
	}
	serveGRPC(ctx, group, driver.NewServer(r.services, r.timed), listener)
	klog.FromContext(ctx).Info("Serving CSI", "socket", r.o.socket(), "mode", r.o.mode)
	if r.nodeAPI != nil {
		listener, err := (&net.ListenConfig{}).Listen(ctx, "tcp", r.o.nodeAddress)
		if err != nil {
			return err
		}
		serveGRPC(ctx, group, r.nodeAPI, listener)
	}
	if r.o.metrics != "" {
		if err := r.serveHealth(ctx, group); err != nil {
			return err
		}
	}
	if r.o.isNode() {
		group.Go(func() error {
			return registration.Run(ctx, registration.Options{
				Driver: r.o.driver, Endpoint: r.o.socket(), Dir: filepath.Join(r.o.kubeletDir, "plugins_registry"), Clock: clock.RealClock{},
			})
		})
	}
	return group.Wait()
}

// serveGRPC serves until ctx ends, and then until running calls have ended or
// drainFor has passed.
func serveGRPC(ctx context.Context, group *errgroup.Group, server *grpc.Server, listener net.Listener) {
	group.Go(func() error { return server.Serve(listener) })
	group.Go(func() error {
		<-ctx.Done()
		impatient := time.AfterFunc(drainFor, server.Stop)
		defer impatient.Stop()
		server.GracefulStop()
		return nil
	})
}

// serveHealth serves metrics, and health as a client of the driver's own socket
// sees it.
func (r *csiRun) serveHealth(ctx context.Context, group *errgroup.Group) error {
	conn, err := grpc.NewClient("unix://"+r.o.socket(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	r.closers = append(r.closers, conn.Close)
	return serveProbes(ctx, group, r.o.metrics, map[string]http.Handler{
		"GET /metrics": promhttp.HandlerFor(r.registry, promhttp.HandlerOpts{}),
		"GET /healthz": probe(csi.NewIdentityClient(conn), false),
		"GET /readyz":  probe(csi.NewIdentityClient(conn), true),
	})
}

// probe answers 200 when the driver answers a Probe, and is ready if it must be.
func probe(client csi.IdentityClient, ready bool) http.HandlerFunc {
	return func(w http.ResponseWriter, req *http.Request) {
		ctx, cancel := context.WithTimeout(req.Context(), 5*time.Second)
		defer cancel()
		resp, err := client.Probe(ctx, &csi.ProbeRequest{})
		switch {
		case err != nil:
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		case ready && !resp.GetReady().GetValue():
			http.Error(w, "not ready", http.StatusServiceUnavailable)
		default:
			_, _ = fmt.Fprintln(w, "ok")
		}
	}
}

func (r *csiRun) close() error {
	var errs []error
	for _, closer := range r.closers {
		errs = append(errs, closer())
	}
	return errors.Join(errs...)
}
