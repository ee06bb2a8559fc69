// Package ingest is the single entrance for records into the engine. It reads the memory shared by Asterisk's
// process and the engine (boundary/shared.h):
//
//	control memory ── ring of ranges ──► Door ──► take(id, Range) ──► engine
//	slab files     ── frames ───────────┘                             │
//	               ◄── frame.Done in each frame's state ──────────────┘
//
// It also manages the folders of durable slabs, and finds the folders of killed runs (run.go, find.go):
//
//	/dev/shm/res_kafka-HASH-PID-TIME-RANDOM/   of one run of Asterisk with the module; mode 0700
//	    lock                                   held (flock, shared) by Asterisk and by each of its engines
//	    slabs                                  written by stage/files.c, read by internal/frame
//	    slab-N                                 a larger slab
//	SPOOL/kafka/.staged/NAME                   an empty file: the spool's note of the folder's name
//
// HASH is a hash of the spool directory's path. RANDOM cannot be guessed, so no other user can occupy the
// name. The note finds a folder, also after a move of the spool or a change of the user. Without a note,
// which a full disk prevents, HASH finds the folder. A folder with a free lock belongs to a finished run. A
// process with an exclusive lock owns the folder's frames until the folder is removed or the process ends.
//
// Folders of earlier versions, /dev/shm/res_kafka-UID-HASH/PID-TIME/, are found too.
//
// Asterisk's process is not trusted: each number is read once, into memory of the engine, and then checked.
// No function waits for the network. Only the notes touch the disk.
package ingest

import (
	"errors"
	"fmt"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"reskafka/internal/frame"
	"reskafka/internal/host"
	"reskafka/internal/rooted"
)

// Range is a contiguous sequence of frames of one slab, handed over by the module. The engine must skip each
// frame in a state other than frame.Ready.
type Range struct {
	// Frames may lie in memory written by another process.
	Frames []byte

	// Stays: each frame stays in place until its state is frame.Done, and the capacity of Frames is the rest
	// of the slab. Without Stays, take must not refer to Frames after its return; the states stay.
	Stays bool

	// Lasting: the slab lies in the staging folder, and the next start reads its unfinished frames.
	Lasting bool

	// States, if not nil, returns the state of the frame at byte at of Frames. It is called once for each
	// frame, from any goroutine.
	States func(at int) *atomic.Uint32
}

// State returns the state of the frame at byte at of Frames. The engine stores frame.Done there once the
// record is on disk, has an outcome, or does not exist. The engine calls State once for each frame.
func (r *Range) State(at int) *atomic.Uint32 {
	if r.States != nil {
		return r.States(at)
	}
	return frame.State(r.Frames, at)
}

// Door reads ranges and passes them to the engine, one after another. Methods are safe for concurrent use.
type Door struct {
	log     host.Logger
	control *control
	wake    *os.File // the eventfd
	ended   sync.WaitGroup
	started time.Time

	mtx     sync.Mutex // guards the fields below; held over take, so ranges are taken one after another
	take    func(id uint64, r Range)
	files   files
	next    uint64             // entries of the ring ever taken
	handed  map[slabKey]filled // progress of the hand-over of each slab ever named
	closed  bool
	logged  time.Time // time of the last log line about an invalid range
	refused uint64    // such ranges since

	stalled     bool        // the next range cannot be used for the moment
	stallLogged time.Time   // time of the last log line about a stall
	retry       *time.Timer // calls empty after a stall

	timer     *os.File // of looks; nil = no slab is followed
	timerFD   uintptr
	armed     time.Duration // when the timer ends; 0 = it is not set
	followers map[uint64]*follower

	late late
}

// Open maps the control memory and the file of plain slabs, and checks the control memory's head. It reads no
// range yet. The Door takes ownership of the descriptors, even after an error.
func Open(control, slabs, wake int, log host.Logger) (*Door, error) {
	d := &Door{log: log, started: time.Now(), handed: map[slabKey]filled{}, followers: map[uint64]*follower{}}
	_ = syscall.SetNonblock(wake, true) // for Go's poller
	if d.wake = os.NewFile(uintptr(wake), "wake"); d.wake == nil {
		return nil, fmt.Errorf("using the eventfd: %w", os.ErrInvalid)
	}
	plain, err := newFile(slabs, "plain slabs")
	if err != nil {
		err = fmt.Errorf("using the memory of plain slabs: %w", err)
	}
	memory, failed := newFile(control, "control memory")
	if failed == nil {
		d.control, failed = mapControl(memory)
		_ = memory.Close() // the mapping stays
	}
	if failed != nil {
		err = errors.Join(err, fmt.Errorf("using the control memory: %w", failed))
	}
	if err != nil {
		if plain != nil {
			_ = plain.Close()
		}
		_ = d.wake.Close()
		return nil, err
	}
	d.files.plain = plain
	return d, nil
}

// Gate returns the gate of a number, or nil if there is none.
func (d *Door) Gate(id uint64) *Gate {
	if id == 0 || id >= gateCount {
		return nil
	}
	return &d.control.gates[id]
}

// Progress returns the progress record of a subscription's number, or nil if there is none.
func (d *Door) Progress(id uint64) *Progress {
	if id == 0 || id >= progressCount {
		return nil
	}
	return &d.control.progress[id]
}

// Area returns area number n, from 1 to Areas. The engine only writes to it. The module copies the area after an
// answer with its number.
func (d *Door) Area(n int) []byte { return d.control.areas[n-1][:] }

// Start begins to read the ring. folder is the staging folder, or empty. take is called for each range in the
// order of the puts, never concurrently, from a goroutine of the Door or from within Drain. take must return
// soon: the module waits for space in a full ring.
func (d *Door) Start(folder string, take func(id uint64, r Range)) error {
	poll, err := d.wake.SyscallConn()
	if err != nil {
		return fmt.Errorf("waiting for the eventfd: %w", err)
	}
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if d.take != nil {
		return errors.New("reading the ring: it is being read already")
	}
	if folder != "" {
		if d.files.folder, err = rooted.OpenOwn(folder); err != nil {
			host.Logf(d.log, host.Error, "opening the staging folder: %v", err)
		}
	}
	d.take = take
	d.next = d.control.ring.taken.Load()
	d.await(poll, d.empty)
	if err := d.openTimer(); err != nil {
		host.Logf(d.log, host.Warning, "records are taken with more processor time: %v", err)
	}
	return nil
}

// await calls do after each write to an eventfd, and after each timer. The descriptor is never read: the
// poller reports each event, and a read would be one more system call.
func (d *Door) await(poll syscall.RawConn, do func()) {
	d.ended.Go(func() {
		_ = poll.Read(func(uintptr) bool {
			do()
			return false
		})
	})
}

// Drain takes all entries of the ring.
func (d *Door) Drain() {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	d.drain()
}

// Close ends the reading. take is never called after its return. The slabs are unmapped: no part of a Range,
// no state and no slab of Rest may be used then. Gates and progress records stay.
func (d *Door) Close() {
	_ = d.wake.Close()
	d.mtx.Lock()
	d.take = func(uint64, Range) {}
	if d.retry != nil {
		d.retry.Stop()
	}
	if !d.closed {
		d.closed = true
		d.settle()
		d.files.close()
	}
	timer := d.timer
	d.mtx.Unlock()
	if timer != nil { // without the lock, because the timer's goroutine needs it
		_ = timer.Close()
	}
	d.ended.Wait()
}
