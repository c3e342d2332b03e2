// Package e2e examines open-local on a real cluster: real kubelets, real LVM, a
// real API server, all of them in the lab. Every case is told in the words of a
// user (a claim, a pod, a class) and after every case the logical volumes and
// the free extents of every node must be what they were before it.
//
// The tests carry the build tag e2e; `make test-e2e` runs them.
package e2e
