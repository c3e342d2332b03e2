package provision

import "context"

// Wait returns when the spaces that are being grown have grown.
func (w *Watcher) Wait() { w.work.Wait() }

// Release is what Run begins with.
func (w *Watcher) Release(ctx context.Context) { w.release(ctx) }
