// Package reserve asks the scheduler extender where on its node a claim's volume
// goes, and to keep room for what no claim speaks of: a volume that grows, a snapshot.
// The answer is the same ever after, so asking again is free. It knows the extender's
// calls over mutual TLS and nothing of how the extender decides.
package reserve

import (
	"cmp"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"time"
)

// Why there is no place. A caller tells them apart with errors.Is.
var (
	// ErrNoRoom means that the node has no room for what the claim's pod wants; the
	// pod must be scheduled anew.
	ErrNoRoom = errors.New("no room on the node")
	// ErrNotReady means that the extender could not be asked or cannot answer yet;
	// the same question later may be answered.
	ErrNotReady = errors.New("the scheduler extender cannot answer now")
	// ErrUnknown means that the extender knows no such claim.
	ErrUnknown = errors.New("no such claim")
	// ErrElsewhere means that the volume lies or is promised on another node.
	ErrElsewhere = errors.New("the volume has its place on another node")
	// ErrInvalid means that the claim or its class asks for what cannot be.
	ErrInvalid = errors.New("invalid claim")
)

// statuses are the errors as the extender's HTTP statuses.
var statuses = map[int]error{
	http.StatusNotFound:            ErrUnknown,
	http.StatusConflict:            ErrElsewhere,
	http.StatusUnprocessableEntity: ErrInvalid,
	http.StatusServiceUnavailable:  ErrNotReady,
	http.StatusInsufficientStorage: ErrNoRoom,
}

// StatusOf returns the HTTP status that stands for err: 500 when err is none of the
// errors of this package.
func StatusOf(err error) int {
	for status, kind := range statuses {
		if errors.Is(err, kind) {
			return status
		}
	}
	return http.StatusInternalServerError
}

// Path is where the extender serves reservations, POST to make one and DELETE to give up what
// was answered, with the claim's namespace and name
// as gin parameters.
const Path = "/apis/scheduling/:namespace/persistentvolumeclaims/:name"

// A Request names a claim and the node that was selected for it.
type Request struct {
	Namespace, Claim string
	Volume           string // that is made for it: tells a claim from one of its name before it; or empty
	Node             string
	VolumeType       string // as in the StorageClass; the extender reads the class itself
	Group            string // the group the class insists on, or empty
	// Attempt tells this attempt to make the volume from all others, for GiveUp; or empty.
	Attempt string
}

// A Place is where the volume goes.
type Place struct {
	Node  string
	Group string // of a volume of type LVM
	Path  string // of the device or mount point that a volume of another type gets
	// Identity is who that device or file system is: its path may be another's by now.
	Identity string
}

// An Answer is what the extender writes when there is a place.
type Answer struct {
	Node       string `json:"node"`
	Group      string `json:"vgName"`
	Disk       string `json:"disk"`               // of a volume of type MountPoint: where it is mounted
	Device     string `json:"device"`             // of a volume of type Device: its path
	Identity   string `json:"identity,omitempty"` // who the device or file system is
	VolumeType string `json:"volumeType"`
	Claim      string `json:"persistentVolumeClaim"` // namespace/name
}

// A Refusal is what the extender writes when there is none.
type Refusal struct {
	Message string `json:"message"`
}

// timeout bounds one call when the caller's context does not.
const timeout = 10 * time.Second

// idle is how many connections are kept for the next calls.
const idle = 8

// maxAnswer is more than any answer has, in bytes.
const maxAnswer = 1 << 20

// A Client asks one extender. It may be used by several goroutines.
type Client struct {
	endpoint string
	http     *http.Client
}

// New returns a client of the extender at endpoint, such as
// "https://open-local-scheduler-extender.kube-system:23443". The configuration must
// carry the certificate that the extender lets in.
func New(endpoint string, config *tls.Config) *Client {
	return &Client{
		endpoint: strings.TrimRight(endpoint, "/"),
		http: &http.Client{
			Timeout: timeout,
			// HTTP/1.1: a call that is not answered closes its connection. That of HTTP/2 is
			// kept, and when the extender's node has lost its power every later call hangs in it.
			Transport: &http.Transport{TLSClientConfig: config, IdleConnTimeout: time.Minute, MaxIdleConnsPerHost: idle},
		},
	}
}

// Reserve returns the place of the claim's volume on the node, which is kept for it
// from then on.
func (c *Client) Reserve(ctx context.Context, r Request) (Place, error) {
	place, err := c.reserve(ctx, r)
	if err != nil {
		return Place{}, fmt.Errorf("reserving a place for claim %s/%s on node %q: %w", r.Namespace, r.Claim, r.Node, err)
	}
	return place, nil
}

func (c *Client) reserve(ctx context.Context, r Request) (Place, error) {
	body, err := c.do(ctx, http.MethodPost, c.url(r))
	if err != nil {
		return Place{}, err
	}
	var answer Answer
	if err := json.Unmarshal(body, &answer); err != nil {
		return Place{}, fmt.Errorf("reading the answer %.200q: %w", body, err)
	}
	if answer.Node != r.Node {
		return Place{}, fmt.Errorf("%w: the answer is for node %q", ErrElsewhere, answer.Node)
	}
	return Place{Node: answer.Node, Group: answer.Group, Path: cmp.Or(answer.Device, answer.Disk), Identity: answer.Identity}, nil
}

// GiveUp gives the place back for which Reserve was asked with the same request: its node
// refused to make the volume there, and is at it no more. If the place was asked for in
// another attempt since, it is kept.
func (c *Client) GiveUp(ctx context.Context, r Request) error {
	if _, err := c.do(ctx, http.MethodDelete, c.url(r)); err != nil {
		return fmt.Errorf("giving up the place of claim %s/%s on node %q: %w", r.Namespace, r.Claim, r.Node, err)
	}
	return nil
}

// do returns what the extender answers to a request that it grants.
func (c *Client) do(ctx context.Context, method, url string) ([]byte, error) {
	request, err := http.NewRequestWithContext(ctx, method, url, http.NoBody)
	if err != nil {
		return nil, err
	}
	response, err := c.http.Do(request)
	if err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotReady, err)
	}
	defer response.Body.Close() //nolint:errcheck // it was only read
	body, err := io.ReadAll(io.LimitReader(response.Body, maxAnswer))
	if err != nil {
		return nil, fmt.Errorf("%w: reading the answer: %w", ErrNotReady, err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, refused(response.StatusCode, body)
	}
	return body, nil
}

func (c *Client) url(r Request) string {
	path := "/apis/scheduling/" + url.PathEscape(r.Namespace) + "/persistentvolumeclaims/" + url.PathEscape(r.Claim)
	query := url.Values{"nodeName": {r.Node}, "volumeType": {r.VolumeType}, "vgName": {r.Group}}
	if r.Volume != "" {
		query.Set("volume", r.Volume)
	}
	if r.Attempt != "" {
		query.Set("attempt", r.Attempt)
	}
	return c.endpoint + path + "?" + query.Encode()
}

// refused returns the error that a status and a body stand for.
func refused(status int, body []byte) error {
	var refusal Refusal
	if err := json.Unmarshal(body, &refusal); err != nil || refusal.Message == "" {
		refusal.Message = fmt.Sprintf("%.200q", body)
	}
	if kind, known := statuses[status]; known {
		return fmt.Errorf("%w: %s", kind, refusal.Message)
	}
	return fmt.Errorf("the extender answered %s: %s", http.StatusText(status), refusal.Message)
}
