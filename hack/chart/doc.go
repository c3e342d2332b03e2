// Package chart examines the Helm chart in helm/: that it lints, that every
// object it renders is one that Kubernetes knows field by field, who may do what,
// and that the certificates it makes are good for those who use them. It has a
// module of its own because Helm needs other Kubernetes libraries than the
// product. It does not know whether the programs work.
package chart
