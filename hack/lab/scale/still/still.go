// Package still is the API server of a cluster in which nothing happens. It makes what it
// lists when it is asked for it and keeps none of it, so a cluster of any size fits beside
// the programs whose memory is measured. It does not know who asks.
package still

import (
	"encoding/json"
	"fmt"
	"io"
	"mime"
	"net/http"
	"strconv"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/watch"
	"k8s.io/client-go/kubernetes/scheme"
)

// version is that of everything: nothing ever changes.
const version = "1000"

const protobufType = "application/vnd.kubernetes.protobuf"

// A Kind is all objects of one kind.
type Kind struct {
	Path  string // such as /api/v1/pods
	Parts int    // in which they are made
	Part  func(i int) []runtime.Object
	List  func([]runtime.Object) runtime.Object // the list of its kind
}

// A Server lists kinds, and has watches wait for what never comes. Others it does not have.
type Server struct {
	Kinds []Kind
	// Singles are objects that are asked for by name, by their path.
	Singles map[string]runtime.Object
	// Streams has watches begin with what there is, as API servers do from 1.34 on.
	Streams bool
}

// ServeHTTP implements http.Handler.
func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	a := &answer{ResponseWriter: w, binary: strings.Contains(r.Header.Get("Accept"), protobufType)}
	if o, is := s.Singles[r.URL.Path]; is {
		a.whole(o)
		return
	}
	for _, kind := range s.Kinds {
		if kind.Path != r.URL.Path {
			continue
		}
		query := r.URL.Query()
		switch {
		case query.Get("watch") == "":
			a.list(kind, query.Get("limit"), query.Get("continue"))
		case query.Get("sendInitialEvents") != "true":
			a.begin(true)
			<-r.Context().Done()
		case !s.Streams:
			http.Error(w, "sendInitialEvents is forbidden", http.StatusUnprocessableEntity)
		default:
			if err := a.stream(kind); err == nil {
				<-r.Context().Done()
			}
		}
		return
	}
	http.NotFound(w, r)
}

// An answer is one that is being given, in protobuf or JSON.
type answer struct {
	http.ResponseWriter
	binary bool
}

func (a *answer) encode(o runtime.Object) ([]byte, error) {
	if !a.binary {
		return json.Marshal(o)
	}
	return runtime.Encode(protobuf.NewSerializer(scheme.Scheme, scheme.Scheme), o)
}

// begin sends the header.
func (a *answer) begin(stream bool) {
	kind := "application/json"
	if a.binary {
		kind = protobufType
	}
	if stream && a.binary {
		kind = mime.FormatMediaType(kind, map[string]string{"stream": "watch"})
	}
	a.Header().Set("Content-Type", kind)
	a.WriteHeader(http.StatusOK)
	_ = http.NewResponseController(a.ResponseWriter).Flush() // who asks has gone, or gets it later
}

func (a *answer) whole(o runtime.Object) {
	text, err := a.encode(o)
	if err != nil {
		http.Error(a, err.Error(), http.StatusInternalServerError)
		return
	}
	a.begin(false)
	_, _ = a.Write(text) // who asks has gone
}

// list answers with a page: so many parts as have the limit, from the part that continues.
func (a *answer) list(kind Kind, limit, from string) {
	most, _ := strconv.Atoi(limit)
	part, _ := strconv.Atoi(from)
	var objects []runtime.Object
	for ; part < kind.Parts && (most == 0 || len(objects) < most); part++ {
		objects = append(objects, kind.Part(part)...)
	}
	list := kind.List(objects)
	about, ok := list.(metav1.ListInterface)
	if accessor, is := list.(metav1.ListMetaAccessor); is {
		about, ok = accessor.GetListMeta(), true
	}
	if !ok {
		http.Error(a, fmt.Sprintf("%T is no list", list), http.StatusInternalServerError)
		return
	}
	about.SetResourceVersion(version)
	if part < kind.Parts {
		about.SetContinue(strconv.Itoa(part))
	}
	a.whole(list)
}

// stream begins a watch with all objects, and says when these have been all.
func (a *answer) stream(kind Kind) error {
	a.begin(true)
	for part := range kind.Parts {
		for _, o := range kind.Part(part) {
			if err := a.event(watch.Added, o); err != nil {
				return err
			}
		}
	}
	end := kind.Part(0)[0].DeepCopyObject()
	about, ok := end.(metav1.Object)
	if !ok {
		return fmt.Errorf("%T has no metadata", end)
	}
	about.SetAnnotations(map[string]string{metav1.InitialEventsAnnotationKey: "true"})
	if err := a.event(watch.Bookmark, end); err != nil {
		return err
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// event writes one event of a watch.
func (a *answer) event(what watch.EventType, o runtime.Object) error {
	raw, err := a.encode(o)
	if err != nil {
		return err
	}
	event := &metav1.WatchEvent{Type: string(what), Object: runtime.RawExtension{Raw: raw}}
	if !a.binary {
		return json.NewEncoder(a).Encode(event)
	}
	return protobuf.NewRawSerializer(scheme.Scheme, scheme.Scheme).Encode(event, framed{a})
}

// framed writes each text behind its length, as watches in protobuf do.
type framed struct{ to io.Writer }

func (f framed) Write(text []byte) (int, error) {
	return protobuf.LengthDelimitedFramer.NewFrameWriter(f.to).Write(text)
}
