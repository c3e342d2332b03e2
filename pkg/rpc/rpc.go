// Package rpc holds what every gRPC server of open-local does around its
// handlers: a panic ends one call and not the process, each call is one line in
// the log, and an error gets its code from one table. It knows no method.
package rpc

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"
)

// Recover turns a panic of a handler into codes.Internal, and logs where it was.
func Recover(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if cause := recover(); cause != nil {
			klog.FromContext(ctx).Error(fmt.Errorf("panic: %v", cause), "A call panicked", "method", info.FullMethod, "stack", string(debug.Stack()))
			resp, err = nil, status.Errorf(codes.Internal, "%s panicked, see the log: %v", info.FullMethod, cause)
		}
	}()
	return handler(ctx, req)
}

// Log gives handlers a logger that names the method and the volume, and logs how
// the call ended: failures always, successes at V(2). Of the request it shows the
// volume alone, so no secret reaches the log.
func Log(ctx context.Context, req any, info *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	log := klog.FromContext(ctx).WithValues("method", info.FullMethod)
	if id := Volume(req); id != "" {
		log = log.WithValues("volume", id)
	}
	start := time.Now()
	resp, err := handler(klog.NewContext(ctx, log), req)
	took := time.Since(start).Round(time.Microsecond)
	if err != nil {
		log.Error(err, "Call failed", "code", status.Code(err).String(), "took", took)
	} else {
		log.V(2).Info("Call succeeded", "took", took)
	}
	return resp, err
}

// Volume returns the handle of the volume that a request is about, or "".
func Volume(req any) string {
	switch req := req.(type) {
	case interface{ GetVolumeId() string }:
		return req.GetVolumeId()
	case interface{ GetId() string }:
		return req.GetId()
	case interface{ GetName() string }:
		return req.GetName()
	}
	return ""
}

// A Table says which code an error has. It is read from the top.
type Table []Row

// A Row gives every error that wraps Err the code.
type Row struct {
	Err  error
	Code codes.Code
}

// Code returns the code of err: that of the first row it wraps, or else
// codes.Internal. An error that has a code already keeps it.
func (t Table) Code(err error) codes.Code {
	for _, row := range t {
		if errors.Is(err, row.Err) {
			return row.Code
		}
	}
	if s, ok := status.FromError(err); ok {
		return s.Code()
	}
	return codes.Internal
}

// Interceptor gives the errors of handlers their codes.
func (t Table) Interceptor(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handler grpc.UnaryHandler) (any, error) {
	resp, err := handler(ctx, req)
	if err == nil {
		return resp, nil
	}
	return nil, status.Error(t.Code(err), err.Error())
}
