package driver

import (
	"maps"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
)

// listVolumes returns the page of at most n volumes (0: all) behind the handle after.
func listVolumes(places map[string]Place, after string, n int) *csi.ListVolumesResponse {
	ids := slices.Sorted(maps.Keys(places))
	first, found := slices.BinarySearch(ids, after)
	if found {
		first++
	}
	ids = ids[first:]
	resp := &csi.ListVolumesResponse{}
	if n > 0 && len(ids) > n {
		ids = ids[:n]
		resp.NextToken = tokenPrefix + ids[n-1]
	}
	for _, id := range ids {
		resp.Entries = append(resp.Entries, &csi.ListVolumesResponse_Entry{Volume: describe(id, places[id])})
	}
	return resp
}
