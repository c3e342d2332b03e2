package extender

import (
	"encoding/json"
	"net/http"
	"strconv"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// encodeFilter writes the result of Filter. The scheduler's encoding/json reads it; it
// is written by hand because thousands of names take several times as long otherwise.
func encodeFilter(r *extenderv1.ExtenderFilterResult, err error) (int, []byte) {
	if err != nil {
		if status := statusOf(err); status == http.StatusServiceUnavailable {
			return status, quoted(err.Error())
		}
		r = &extenderv1.ExtenderFilterResult{Error: err.Error()}
	}
	nodes := []byte("null")
	if r.Nodes != nil {
		if nodes, err = json.Marshal(r.Nodes); err != nil {
			return http.StatusInternalServerError, quoted(err.Error())
		}
	}
	b := make([]byte, 0, len(nodes)+sizeOf(r))
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

// sizeOf guesses how long r will be, in bytes.
func sizeOf(r *extenderv1.ExtenderFilterResult) int {
	size := 256 + 128*(len(r.FailedNodes)+len(r.FailedAndUnresolvableNodes))
	if r.NodeNames != nil && len(*r.NodeNames) > 0 {
		size += (len((*r.NodeNames)[0]) + 8) * len(*r.NodeNames)
	}
	return size
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

// encodeScores writes the result of Prioritize.
func encodeScores(scores *extenderv1.HostPriorityList, err error) (int, []byte) {
	if err != nil {
		return statusOf(err), quoted(err.Error())
	}
	b := make([]byte, 0, 64+64*len(*scores))
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
	for i := range len(text) {
		if c := text[i]; c < ' ' || c >= 0x7f || c == '"' || c == '\\' {
			return append(b, quoted(text)...)
		}
	}
	return append(append(append(b, '"'), text...), '"')
}
