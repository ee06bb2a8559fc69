// Package held counts the unfinished frames of a stage for tests, like the module: put frames minus finished
// frames.
package held

import "sync/atomic"

// Count counts frames, or their charge. Count is safe for concurrent use.
type Count struct {
	put  atomic.Int64
	done *atomic.Int64
}

// Of sets the counter of finished frames, a member of the stage's gate.
func (c *Count) Of(done *atomic.Int64) { c.done = done }

// Add counts n more as put.
func (c *Count) Add(n int64) { c.put.Add(n) }

// Store sets how many are held.
func (c *Count) Store(n int64) { c.put.Store(n + c.done.Load()) }

// Load returns how many are held.
func (c *Count) Load() int64 { return c.put.Load() - c.done.Load() }
