package initplan

import (
	"encoding/json"
	"fmt"
	"maps"
	"math"
	"slices"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/capacity"
)

// A Reservation is what must stay out of a group's allocatable space: a size or
// a share of the group.
type Reservation struct {
	Size  capacity.Bytes
	Share float64 // of the group, 0 to 1
}

// Of returns what the reservation keeps of a group of the given size, in
// bytes; never more than there is.
func (r Reservation) Of(total capacity.Bytes) capacity.Bytes {
	share := total // also where the product, rounded, would exceed it
	if product := math.Ceil(float64(total) * r.Share); product < float64(total) {
		share = capacity.Bytes(product)
	}
	return max(0, min(total, max(r.Size, share)))
}

// ParseReservations reads the annotation v1alpha1.AnnotationStorageReserved:
// for each volume group a quantity ("100Gi") or a share ("10%"). What cannot be
// read, or is for none of groups, is a problem and reserves nothing; the other
// entries hold.
func ParseReservations(annotation string, groups []string) (map[string]Reservation, []Problem) {
	if strings.TrimSpace(annotation) == "" {
		return nil, nil
	}
	var entries map[string]json.RawMessage
	if err := json.Unmarshal([]byte(annotation), &entries); err != nil {
		return nil, []Problem{badReservation("", "it is not a JSON object from volume group to size: %v", err)}
	}
	var (
		reserved = map[string]Reservation{}
		problems []Problem
	)
	for _, group := range slices.Sorted(maps.Keys(entries)) {
		reservation, err := parseReservation(entries[group])
		switch {
		case err != nil:
			problems = append(problems, badReservation(group, "volume group %.127q: %v", group, err))
		case !slices.Contains(groups, group):
			problems = append(problems, badReservation(group, "the node has no volume group %.127q", group))
		default:
			reserved[group] = reservation
		}
	}
	return reserved, problems
}

func parseReservation(raw json.RawMessage) (Reservation, error) {
	var text string
	if err := json.Unmarshal(raw, &text); err != nil {
		return Reservation{}, fmt.Errorf("%.40s is not a string such as \"100Gi\" or \"10%%\"", raw)
	}
	text = strings.TrimSpace(text)
	if percent, isShare := strings.CutSuffix(text, "%"); isShare {
		share, err := strconv.ParseFloat(percent, 64)
		if err != nil || strings.Trim(percent, "0123456789.") != "" || share > 100 {
			return Reservation{}, fmt.Errorf("%.40q is not a share between 0%% and 100%%", text)
		}
		return Reservation{Share: share / 100}, nil
	}
	quantity, err := resource.ParseQuantity(text)
	if err != nil || quantity.Sign() < 0 {
		return Reservation{}, fmt.Errorf("%.40q is neither a size such as 100Gi nor a share such as 10%%", text)
	}
	return Reservation{Size: capacity.Bytes(quantity.Value())}, nil // Value rounds up and stays below the largest int64
}

func badReservation(object, format string, args ...any) Problem {
	return Problem{
		Area: OfSpec, Reason: BadReservation, Object: object,
		Message: "annotation " + v1alpha1.AnnotationStorageReserved + ": " + fmt.Sprintf(format, args...),
	}
}
