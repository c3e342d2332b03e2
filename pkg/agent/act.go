package agent

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"

	"github.com/open-local/open-local/apis/storage/v1alpha1"
	"github.com/open-local/open-local/pkg/begun"
	"github.com/open-local/open-local/pkg/blockdev"
	"github.com/open-local/open-local/pkg/capacity"
	"github.com/open-local/open-local/pkg/initplan"
	"github.com/open-local/open-local/pkg/wipe"
)

// How long a step that failed is left alone: at first, and at most. A failed
// command can cause events, which must not cause the next attempt at once.
const (
	stepBackoff    = 10 * time.Second
	stepBackoffMax = 5 * time.Minute
)

// A failure is a step that did not work.
type failure struct {
	backoff
	problem initplan.Problem
}

// act carries out the steps, but those that failed a short while ago.
func (a *Agent) act(ctx context.Context, nls *v1alpha1.NodeLocalStorage, steps []initplan.Step) {
	a.tellPlan(ctx, nls, steps)
	for _, step := range steps {
		name := step.String()
		f := a.failed[name]
		if f != nil && f.waits(time.Now()) {
			continue
		}
		klog.FromContext(ctx).Info("Changing node", "step", name)
		err := a.carryOut(ctx, step)
		if err == nil {
			delete(a.failed, name)
			a.events.Event(nls, corev1.EventTypeNormal, "NodeStorageChanged", cut("done: "+name, maxEvent))
			continue
		}
		if f == nil {
			f = &failure{backoff: backoff{shortest: stepBackoff, longest: stepBackoffMax}}
		}
		f.failed(time.Now())
		area, object := about(step)
		f.problem = initplan.Problem{Area: area, Reason: initplan.StepFailed, Object: object, Message: fmt.Sprintf("to %s failed: %v", name, err)}
		a.failed[name] = f
	}
}

// tellPlan says what is about to be done, before any of it is: in the log always, and
// in an event unless it is only tried again.
func (a *Agent) tellPlan(ctx context.Context, nls *v1alpha1.NodeLocalStorage, steps []initplan.Step) {
	var plan, news []string
	for _, step := range steps {
		name := step.String()
		f := a.failed[name]
		if f == nil {
			news = append(news, name)
		}
		if f == nil || !f.waits(time.Now()) {
			plan = append(plan, name)
		}
	}
	klog.FromContext(ctx).Info("Planned changes of the node", "steps", plan)
	if len(news) > 0 {
		a.events.Event(nls, corev1.EventTypeNormal, "NodeStoragePlanned", cut("about to "+strings.Join(news, "; "), maxEvent))
	}
}

// left forgets the failures of steps that are not planned any more, and returns a
// problem for each that is.
func (a *Agent) left(steps []initplan.Step) []initplan.Problem {
	failed := map[string]*failure{}
	var problems []initplan.Problem
	for _, step := range steps {
		if f := a.failed[step.String()]; f != nil {
			failed[step.String()] = f
			problems = append(problems, f.problem)
		}
	}
	a.failed = failed
	return problems
}

// toTry reports whether act will try any of steps.
func (a *Agent) toTry(steps []initplan.Step) bool {
	return slices.ContainsFunc(steps, func(step initplan.Step) bool {
		f := a.failed[step.String()]
		return f == nil || !f.waits(time.Now())
	})
}

func (a *Agent) carryOut(ctx context.Context, step initplan.Step) error {
	switch s := step.(type) {
	case initplan.CreateGroup:
		return a.onBlank(ctx, toGroup(s.Group), s.Devices, func() error { return a.host.Groups.CreateGroup(ctx, s.Group, s.Devices) })
	case initplan.ExtendGroup:
		return a.onBlank(ctx, toGroup(s.Group), s.Devices, func() error { return a.host.Groups.ExtendGroup(ctx, s.Group, s.Devices) })
	case initplan.GrowDevice:
		return a.growDevice(ctx, s)
	case initplan.WipeDevice:
		return a.wipeDevice(ctx, s)
	case initplan.MakeFileSystem:
		return a.makeFileSystem(ctx, s)
	case initplan.MountFileSystem:
		return a.mountFileSystem(ctx, s)
	}
	return fmt.Errorf("no way to %s", step)
}

// onBlank does something to devices that are still blank, or half made what they are to
// become. From the look until it is done nobody gives one of them to a volume: whoever
// would looks when it is not blank any more.
func (a *Agent) onBlank(ctx context.Context, what string, paths []string, do func() error) error {
	release, err := a.host.Book.Alone(ctx)
	if err != nil {
		return err
	}
	defer release()
	ids, err := a.stillBlank(ctx, what, paths)
	if err != nil {
		return err
	}
	var work []begun.Change
	for _, id := range ids {
		work = append(work, begun.Change{ID: id, What: what})
	}
	if err := a.host.Begun.Put(work...); err != nil {
		return err
	}
	if err := do(); err != nil {
		return err // what it left is seen by the next look
	}
	return a.host.Begun.Forget(work...)
}

// stillBlank looks at devices once more, right before they are written to, and returns who
// they are, where they say so.
func (a *Agent) stillBlank(ctx context.Context, what string, paths []string) ([]string, error) {
	all, err := a.host.Devices.Devices(ctx)
	if err != nil {
		return nil, err
	}
	held, err := a.host.Book.List()
	if err != nil {
		return nil, err
	}
	known, err := a.host.Begun.List()
	if err != nil {
		return nil, err
	}
	against := map[string]initplan.Objection{} // by identity
	for name, objection := range holdings(held).objections(all) {
		for _, d := range all {
			if d.KernelName == name {
				against[a.identity(d.Path)] = objection
			}
		}
	}
	var ids []string
	byIdentity := a.idsOf(all)
	for _, path := range paths {
		evidence, err := a.host.Devices.Inspect(ctx, path)
		if err != nil {
			return nil, err
		}
		found := listed{evidence: evidence}
		found.Resolved, found.Objections = a.identity(path), a.objections(blockdev.Finding{Evidence: evidence})
		id := byIdentity[found.Resolved]
		if changes(known).has(id, what) {
			a.goOn(ctx, &found, what)
		}
		if objection, is := against[found.Resolved]; is {
			found.Objections = append(found.Objections, objection)
		}
		if len(found.Objections) > 0 {
			return nil, fmt.Errorf("device %s is not blank any more: it %s", path, found.Objections[0].Message)
		}
		if id != "" {
			ids = append(ids, id)
		}
	}
	return ids, nil
}

func (a *Agent) growDevice(ctx context.Context, s initplan.GrowDevice) error {
	all, err := a.host.Devices.Devices(ctx)
	if err != nil {
		return err
	}
	if err := a.host.Groups.ResizePhysicalVolume(ctx, s.Device); err != nil {
		return err
	}
	for _, d := range all {
		if d.Path == s.Device {
			a.filled[s.Device] = d.Size
		}
	}
	return nil
}

// wipeDevice finds the device anew, by who it is, and has it wiped if that is still
// what the spec agreed to. That it was begun is remembered only when the device is ours
// and has those contents: where nothing was done to it nothing is ever gone on with. That
// it was done is remembered until it is reported: no entry of the spec is carried out
// twice.
func (a *Agent) wipeDevice(ctx context.Context, s initplan.WipeDevice) error {
	all, err := a.host.Devices.Devices(ctx)
	if err != nil {
		return err
	}
	all = slices.DeleteFunc(all, func(d blockdev.Device) bool { return d.ID != s.ID })
	if len(all) != 1 {
		return fmt.Errorf("finding device %s: there are %d of it now", s.ID, len(all))
	}
	d := all[0]
	work := begun.Change{ID: s.ID, What: toWipe, Contents: s.Agreed}
	order := wipe.Order{
		Path: d.Path, Major: d.Major, Minor: d.Minor, Contents: s.Contents, Method: wipe.Discard,
		Begin: func() error { return a.host.Begun.Put(work) },
	}
	if err := a.host.Wiper.Wipe(ctx, order, func(capacity.Bytes, capacity.Bytes) {}); err != nil {
		return err // what it left is seen by the next look
	}
	return a.wipedNow(work, d.Path)
}

// about returns which part of the spec a step is for, and what it changes.
func about(step initplan.Step) (area initplan.Area, object string) {
	switch s := step.(type) {
	case initplan.CreateGroup:
		return initplan.OfGroups, s.Group
	case initplan.ExtendGroup:
		return initplan.OfGroups, s.Group
	case initplan.GrowDevice:
		return initplan.OfGroups, s.Group
	case initplan.WipeDevice:
		return initplan.OfDevices, s.ID
	case initplan.MakeFileSystem:
		return initplan.OfMountPoints, s.Path
	case initplan.MountFileSystem:
		return initplan.OfMountPoints, s.Path
	}
	return initplan.OfSpec, ""
}
