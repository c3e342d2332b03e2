package extender

import (
	"encoding/json"
	"net/http"
	"strconv"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// encodeFilter appends the result of Filter to b. The scheduler's encoding/json reads it; it
// is written by hand because thousands of names take several times as long otherwise.
func encodeFilter(b []byte, r *extenderv1.ExtenderFilterResult, err error) (int, []byte) {
	if err != nil {
		if status := statusOf(err); status == http.StatusServiceUnavailable {
			return status, append(b, quoted(err.Error())...)
		}
		r = &extenderv1.ExtenderFilterResult{Error: spoken(err.Error())}
	}
	nodes := []byte("null")
	if r.Nodes != nil {
		if nodes, err = json.Marshal(r.Nodes); err != nil {
			return http.StatusInternalServerError, append(b, quoted(err.Error())...)
		}
	}
	b = append(append(b, `{"Nodes":`...), nodes...)
	b = append(b, `,"NodeNames":`...)
	if r.NodeNames == nil {
		b = append(b, "null"...)
	} else {
		b = append(b, '[')
		for i, name := range *r.NodeNames {
			if i > 0 {
				b = append(b, ',')
			}
			b = appendString(b, name)
		}
		b = append(b, ']')
	}
	b = appendReasons(append(b, `,"FailedNodes":`...), r.FailedNodes)
	b = appendReasons(append(b, `,"FailedAndUnresolvableNodes":`...), r.FailedAndUnresolvableNodes)
	b = appendString(append(b, `,"Error":`...), r.Error)
	return http.StatusOK, append(b, '}')
}

func appendReasons(b []byte, reasons extenderv1.FailedNodesMap) []byte {
	b = append(b, '{')
	first := true
	for node, reason := range reasons {
		if !first {
			b = append(b, ',')
		}
		first = false
		b = appendString(append(appendString(b, node), ':'), reason)
	}
	return append(b, '}')
}

// encodeScores appends the result of Prioritize to b.
func encodeScores(b []byte, scores *extenderv1.HostPriorityList, err error) (int, []byte) {
	if err != nil {
		return statusOf(err), append(b, quoted(err.Error())...)
	}
	b = append(b, '[')
	for i, score := range *scores {
		if i > 0 {
			b = append(b, ',')
		}
		b = appendString(append(b, `{"Host":`...), score.Host)
		b = strconv.AppendInt(append(b, `,"Score":`...), score.Score, 10)
		b = append(b, '}')
	}
	return http.StatusOK, append(b, ']')
}

// appendString writes text as JSON. Names of nodes need no escaping.
func appendString(b []byte, text string) []byte {
	if !plain(text) {
		return append(b, quoted(text)...)
	}
	return append(append(append(b, '"'), text...), '"')
}
