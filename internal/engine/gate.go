package engine

import (
	"math"
	"sync/atomic"
)

// Gate is the memory a stage shares with the engine: struct stage_gate of stage/stage.h, member by member. It belongs
// to the stage, which outlives every use the engine makes of it.
type Gate struct {
	Open       atomic.Int64
	MaxFrames  atomic.Int64
	MaxCharge  atomic.Int64
	MaxLength  atomic.Int64
	LingerNS   atomic.Int64
	MaxWeight  atomic.Int64
	Shared     atomic.Int64
	Taken      atomic.Int64
	HeldFrames atomic.Int64
	HeldCharge atomic.Int64
	Admitted   atomic.Int64
	Unshared   atomic.Int64
	Memory     atomic.Int64
}

// setMemory sets the limits for records that are to wait in memory only. A connection whose event sources keep theirs on disk lets
// more in than its queue has room for; these must not be accepted to be dropped afterwards.
func (g *Gate) setMemory(frames, charge int64) {
	g.Memory.Store(min(frames, math.MaxInt32) | min(max(charge>>10, 1), math.MaxInt32)<<32)
}

// notStaged is the charge of a record that did not go through this run's stage, so that its outcome gives nothing back.
const notStaged = -1

// release gives back what one admitted frame counted against the stage's limits.
func (g *Gate) release(charge int64) {
	if charge == notStaged {
		return
	}
	g.releaseAll(1, charge)
}

// releaseAll gives back what so many admitted frames counted together.
func (g *Gate) releaseAll(frames, charge int64) {
	g.HeldFrames.Add(-frames)
	g.HeldCharge.Add(-charge)
}
