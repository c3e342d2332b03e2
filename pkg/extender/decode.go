package extender

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strings"

	extenderv1 "k8s.io/kube-scheduler/extender/v1"
)

// errJSON means that the request is not the object it should be.
var errJSON = errors.New("not a JSON object of Pod, Nodes and NodeNames")

// decodeArgs reads what the scheduler sends. Names of thousands of nodes take most of
// it, so the object and its list of names are taken apart here, and encoding/json reads
// the rest.
func decodeArgs(body io.Reader, size int64, into *extenderv1.ExtenderArgs) error {
	var text strings.Builder
	if size > 0 && size < maxRequest {
		text.Grow(int(size))
	}
	if _, err := io.Copy(&text, body); err != nil {
		return err
	}
	s := scanner{text: text.String()}
	if !s.take('{') {
		return errJSON
	}
	for more := !s.take('}'); more; {
		key, ok := s.word()
		if !ok || !s.take(':') {
			return errJSON
		}
		if err := s.field(key, into); err != nil {
			return err
		}
		if more = s.take(','); !more && !s.take('}') {
			return errJSON
		}
	}
	s.space()
	if s.text[s.at:] != "" {
		return errJSON
	}
	return nil
}

// field reads the value of one key. Like encoding/json it does not mind the case of a
// key it knows, nor one it does not know.
func (s *scanner) field(key string, into *extenderv1.ExtenderArgs) error {
	begun := *s
	if strings.EqualFold(key, "NodeNames") {
		if names, plain := s.names(); plain {
			into.NodeNames = &names
			return nil
		}
		*s = begun
	}
	value, ok := s.value()
	if !ok {
		return errJSON
	}
	var err error
	switch {
	case strings.EqualFold(key, "Pod"):
		err = json.Unmarshal([]byte(value), &into.Pod)
	case strings.EqualFold(key, "Nodes"):
		err = json.Unmarshal([]byte(value), &into.Nodes)
	case strings.EqualFold(key, "NodeNames"):
		err = json.Unmarshal([]byte(value), &into.NodeNames)
	case !json.Valid([]byte(value)):
		err = errJSON
	}
	if err != nil {
		return fmt.Errorf("field %.20q: %w", key, err)
	}
	return nil
}

// A scanner takes JSON apart. What it returns is part of the text, not a copy.
type scanner struct {
	text string
	at   int
}

func (s *scanner) space() {
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case ' ', '\t', '\r', '\n':
			s.at++
		default:
			return
		}
	}
}

// take skips space, and the character if it comes next.
func (s *scanner) take(c byte) bool {
	s.space()
	if s.at < len(s.text) && s.text[s.at] == c {
		s.at++
		return true
	}
	return false
}

// word returns a string of printable ASCII in which nothing is escaped, as all keys and
// names of nodes are, and false for any other.
func (s *scanner) word() (string, bool) {
	if !s.take('"') {
		return "", false
	}
	for begun := s.at; s.at < len(s.text); s.at++ {
		switch c := s.text[s.at]; {
		case c == '"':
			s.at++
			return s.text[begun : s.at-1], true
		case c < ' ' || c >= 0x7f || c == '\\':
			return "", false
		}
	}
	return "", false
}

// names returns an array of words, and false for any other value.
func (s *scanner) names() ([]string, bool) {
	if !s.take('[') {
		return nil, false
	}
	names := []string{}
	if s.take(']') {
		return names, true
	}
	for {
		name, ok := s.word()
		if !ok {
			return nil, false
		}
		if len(names) == 0 { // names are mostly as long as the first
			names = make([]string, 0, (len(s.text)-s.at)/(len(name)+3)+1)
		}
		names = append(names, name)
		if s.take(']') {
			return names, true
		}
		if !s.take(',') {
			return nil, false
		}
	}
}

// value returns the text of the next value, found by its brackets: whoever uses it must
// check that it is JSON.
func (s *scanner) value() (string, bool) {
	s.space()
	begun, depth := s.at, 0
	for s.at < len(s.text) {
		switch s.text[s.at] {
		case '"':
			if !s.skipString() {
				return "", false
			}
			continue
		case '{', '[':
			depth++
		case '}', ']', ',':
			if depth == 0 {
				return s.text[begun:s.at], s.at > begun
			}
			if s.text[s.at] != ',' {
				depth--
			}
		}
		s.at++
	}
	return "", false
}

// skipString skips a string, whatever is in it.
func (s *scanner) skipString() bool {
	for s.at++; s.at < len(s.text); s.at++ {
		switch s.text[s.at] {
		case '\\':
			s.at++
		case '"':
			s.at++
			return true
		}
	}
	return false
}
