package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"os"
	"runtime/debug"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"reskafka/internal/frame"
	"reskafka/internal/host"
)

// Under steady traffic the Door follows the slab that a stage is filling: it takes complete frames by itself, linger_ms after the
// first one. Without that the pump wakes for each batch, only to wake the Door. The pump still looks at the stage, less often
// (STAGE_FOLLOWED_NS in stage/internal.h), and puts an entry for frames that it does not know to be done. The Door skips the
// frames of an entry that it has taken already. The pump names the next slab.
//
//	entries, one after another ──► followed: a look each linger_ms ──no frame for followQuiet──► not followed
const (
	followFrom   = 4                      // entries of a gate in a row before its slab is followed
	followGap    = 50 * time.Millisecond  // longest time between these: STAGE_QUIET_NS
	followQuiet  = 200 * time.Millisecond // more than STAGE_FOLLOWED_NS and STAGE_QUIET_NS, by which the pump disarms a stage
	followLinger = 50 * time.Millisecond  // longest linger of a gate that is followed
	followLate   = 2500 * time.Microsecond
)

// follower is the Door's knowledge of the traffic of one gate.
type follower struct {
	id      uint64
	gate    *Gate
	entries int           // in a row
	last    time.Duration // when frames were last taken

	// Of a gate that is followed. due = 0: it is not.
	due     time.Duration // of the next look
	emptied time.Duration // when everything was last taken
	gap     time.Duration // from then until the next frame was put
	key     slabKey
	memory  []byte // the slab
	start   uint64 // of its first frame
	filled
	count int64 // frames of the stage before end
}

// now is a time on the clock of followers.
func (d *Door) now() time.Duration { return time.Since(d.started) }

// follow notes an entry of a slab of the usual size, and follows the slab under steady traffic. Caller must hold the mutex.
func (d *Door) follow(id uint64, key slabKey, memory []byte) {
	gate, now := d.Gate(id), d.now()
	if gate == nil || d.timer == nil {
		return
	}
	f := d.followers[id]
	if f == nil {
		f = &follower{id: id, gate: gate}
		d.followers[id] = f
	}
	if now-f.last > followGap {
		f.entries = 0
	}
	f.entries++
	f.last = now
	linger, filling := time.Duration(gate.LingerNS.Load()), d.handed[key]
	if f.entries < followFrom || linger <= 0 || linger > followLinger || filling.stage != id {
		d.leave(f)
		return
	}
	if f.due == 0 || f.key != key || f.stage != filling.stage || f.first != filling.first {
		f.key, f.memory, f.due, f.emptied = key, memory, now+linger, now
		f.start = uint64(binary.NativeEndian.Uint32(memory[frame.SlabFrames:]))
		if f.start < frame.SlabHeadSize || f.start%frame.SlabGranule != 0 || f.start > filling.end {
			d.leave(f)
			return
		}
	}
	f.filled = filling
	f.count = int64(filling.first) + complete(memory, f.start, filling.end)
	gate.Follows.Store(max(f.count, 1))
	d.arm(now, f.due)
}

// leave ends the following of a gate.
func (d *Door) leave(f *follower) {
	if f.due != 0 {
		f.due, f.memory = 0, nil
		f.gate.Follows.Store(0)
	}
}

// word returns a word of the bits that mark complete frames.
func word(memory []byte, n uint64) uint64 {
	return (*atomic.Uint64)(unsafe.Pointer(&memory[frame.SlabWhole+8*n])).Load()
}

// complete counts the complete frames of a slab that begin from start on and before end.
func complete(memory []byte, start, end uint64) (frames int64) {
	for granule := (end - start) / frame.SlabGranule; granule > 0; {
		n := (granule - 1) / 64
		bitsBefore := granule - 64*n
		frames += int64(bits.OnesCount64(word(memory, n) & (1<<bitsBefore - 1)))
		granule = 64 * n
	}
	return frames
}

// whole returns where the complete frames that begin at byte end of the slab end, and how many there are.
func (f *follower) whole() (end uint64, frames int64) {
	for end = f.end; end+frame.HeaderSize <= frame.SlabBytes; frames++ {
		granule := (end - f.start) / frame.SlabGranule
		if word(f.memory, granule/64)>>(granule%64)&1 == 0 {
			break
		}
		size := uint64(binary.NativeEndian.Uint32(f.memory[end:]))
		if size < frame.HeaderSize || size%frame.SlabGranule != 0 || size > frame.SlabBytes-end {
			break // the pump's entry comes to it, and is refused
		}
		end += size
	}
	return end, frames
}

// put returns when the frame at byte at was put.
func (f *follower) put(at uint64, now time.Duration) time.Duration {
	if at+frame.HeaderSize+8 > frame.SlabBytes {
		return 0
	}
	accepted := int64(binary.NativeEndian.Uint64(f.memory[at+frame.HeaderSize:]))
	age := time.Duration(time.Now().UnixNano() - accepted)
	return now - min(max(age, 0), now) // the clock may have been set
}

// lookAll looks at the followed slabs for which it is time.
func (d *Door) lookAll() {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if d.closed {
		return
	}
	now := d.now()
	d.armed = 0
	next := time.Duration(0)
	for _, f := range d.followers {
		if f.due == 0 {
			continue
		}
		if f.due-time.Duration(f.gate.LingerNS.Load())/8 <= now { // gates with like lingers share wake-ups
			if err := d.lookAt(f, now); err != nil {
				d.refuse(err)
				d.leave(f)
			}
		}
		if f.due != 0 && (next == 0 || f.due < next) {
			next = f.due
		}
	}
	if next != 0 {
		d.arm(now, next)
	}
}

// lookAt takes the new frames of a slab if the first of them has lingered, and sets the time of the next look.
func (d *Door) lookAt(f *follower, now time.Duration) (err error) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		if r := recover(); r != nil {
			host.LogPanic(d.log, "taking over records", r)
			err = errors.New("a panic")
		}
	}()
	linger := time.Duration(f.gate.LingerNS.Load())
	end, frames := f.whole()
	// A slab in use again has another head before it has a complete frame.
	if stage, first := filling(f.memory); stage != f.stage || first != f.first || linger <= 0 || linger > followLinger {
		d.leave(f)
		return nil
	}
	if frames == 0 {
		f.due, f.emptied, f.gap = now+linger, now, 0
		if now-f.last >= followQuiet {
			f.entries = 0
			d.leave(f)
		}
		return nil
	}
	put := f.put(f.end, now)
	if due := put + linger; due-linger/8 > now {
		f.due, f.last = due, now
		return nil
	}
	gap := max(put-f.emptied, 0)
	f.due = now + linger + min(gap, f.gap, linger/2, followLate) // as stage_expect
	f.gap, f.emptied, f.last = gap, now, now
	from := f.end
	f.end, f.followed = end, true
	f.count += frames
	d.handed[f.key] = f.filled
	f.gate.Follows.Store(max(f.count, 1))
	d.take(f.id, Range{Frames: f.memory[from:end], Stays: true, Lasting: f.key.pool == poolDurable})
	return nil
}

// clockMonotonic and the flags are those of timerfd_create(2).
const (
	clockMonotonic = 1
	timerFlags     = syscall.O_CLOEXEC | syscall.O_NONBLOCK
)

// openTimer makes the timer of looks. It is a descriptor, and no time.Timer: a goroutine that becomes ready by a descriptor makes
// Go wake no second thread. Caller must hold the mutex.
func (d *Door) openTimer() error {
	fd, _, errno := syscall.RawSyscall(syscall.SYS_TIMERFD_CREATE, clockMonotonic, timerFlags, 0)
	if errno != 0 {
		return fmt.Errorf("making a timer: %w", errno)
	}
	timer := os.NewFile(fd, "looks")
	poll, err := timer.SyscallConn()
	if err != nil {
		_ = timer.Close()
		return fmt.Errorf("waiting for a timer: %w", err)
	}
	d.timer, d.timerFD = timer, fd
	d.await(poll, d.lookAll)
	return nil
}

// arm has lookAll called at a time, or earlier. Caller must hold the mutex.
func (d *Door) arm(now, at time.Duration) {
	if d.armed != 0 && d.armed <= at {
		return
	}
	d.armed = at
	wait := max(at-now, 1)
	setting := struct{ interval, value [2]int }{value: [2]int{int(wait / time.Second), int(wait % time.Second)}} // struct itimerspec
	_, _, _ = syscall.RawSyscall6(syscall.SYS_TIMERFD_SETTIME, d.timerFD, 0, uintptr(unsafe.Pointer(&setting)), 0, 0, 0)
}
