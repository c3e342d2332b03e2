package provision

import (
	"context"
	"fmt"
	"maps"
	"slices"
)

// Recall looks once at what stands, and once more when there is a group that it has not
// seen: disks may come late, or come back. A process that died in the middle of its work,
// or the host, may have left volumes that no device file shows; whatever this process
// makes itself has one. Until Recall succeeded every search begins with it.
func (l *Logical) Recall(ctx context.Context) error {
	_, err := l.recall(ctx)
	return err
}

// recall returns, by name, the groups of the volumes that stood when this process began, or
// in groups that it met later.
func (l *Logical) recall(ctx context.Context) (map[string][]string, error) {
	l.recalling.Lock()
	defer l.recalling.Unlock()
	if l.stood != nil && !l.meetsNew() {
		return l.stood, nil
	}
	report, err := l.Host.Report(ctx)
	if err != nil {
		return nil, fmt.Errorf("looking at the volumes that stand: %w", err)
	}
	stood, recalled := maps.Clone(l.stood), maps.Clone(l.recalled)
	if stood == nil {
		stood, recalled = map[string][]string{}, map[string]bool{}
	}
	for _, group := range report.Groups {
		if recalled[group.Name] {
			continue
		}
		recalled[group.Name] = true
		for _, v := range group.Volumes {
			stood[v.Name] = slices.Concat(stood[v.Name], []string{group.Name})
			l.Standing.learn(v)
			if of, is := inlineOf(v); is {
				l.inlines.remember(of)
			}
		}
		l.recallSnapshots(ctx, group)
	}
	l.stood, l.recalled = stood, recalled
	return stood, nil
}

// meetsNew reports whether a group is managed that recall has not seen.
func (l *Logical) meetsNew() bool {
	managed, err := l.Managed.Managed()
	if err != nil {
		return false // whoever needs to know hears of it
	}
	for group := range managed {
		if !l.recalled[group] {
			return true
		}
	}
	return false
}
