package meter

import (
	"bufio"
	"encoding/json"
	"fmt"
	"os"
)

// A Request is one sort of question to the API server.
type Request struct{ User, Verb, Resource string }

// event is what is read of an audit event.
type event struct {
	Verb string
	User struct{ Username string }
	Ref  struct{ Resource, Subresource string } `json:"objectRef"`
}

// Requests counts the questions in a log of the API server.
func Requests(log string) (map[Request]int, error) {
	file, err := os.Open(log)
	if err != nil {
		return nil, fmt.Errorf("counting requests: %w", err)
	}
	defer file.Close()
	counts := map[Request]int{}
	lines := bufio.NewScanner(file)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return nil, fmt.Errorf("counting requests: reading %q: %w", lines.Text(), err)
		}
		resource := e.Ref.Resource
		if e.Ref.Subresource != "" {
			resource += "/" + e.Ref.Subresource
		}
		counts[Request{e.User.Username, e.Verb, resource}]++
	}
	return counts, lines.Err()
}
