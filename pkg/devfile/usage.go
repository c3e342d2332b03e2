package devfile

import (
	"io/fs"

	"golang.org/x/sys/unix"

	"github.com/open-local/open-local/pkg/capacity"
)

// Usage is how full a file system is. What is available is what an unprivileged
// user may still take; with what is used it may be less than the total.
type Usage struct {
	Total, Used, Available              capacity.Bytes
	TotalInodes, UsedInodes, FreeInodes int64
}

// Usage asks the kernel how full the file system at path is.
func (r Root) Usage(path string) (Usage, error) {
	resolved, err := r.Resolve(path)
	if err != nil {
		return Usage{}, err
	}
	var stat unix.Statfs_t
	if err := unix.Statfs(resolved, &stat); err != nil {
		return Usage{}, &fs.PathError{Op: "statfs", Path: resolved, Err: err}
	}
	block := capacity.Bytes(stat.Frsize)
	return Usage{
		Total:       capacity.Bytes(stat.Blocks) * block,
		Used:        capacity.Bytes(stat.Blocks-stat.Bfree) * block,
		Available:   capacity.Bytes(stat.Bavail) * block,
		TotalInodes: int64(stat.Files),
		UsedInodes:  int64(stat.Files - stat.Ffree),
		FreeInodes:  int64(stat.Ffree),
	}, nil
}
