package ingest

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reskafka/internal/frame"
)

// A following Door needs few entries, so the pump sleeps. Frames arrive once and in order, and all of them at
// the traffic's end.
func TestDoor_SteadyTraffic_TakesFramesWithoutEntries(t *testing.T) {
	w := startWriter(t, memoryFolder(t), 2, 1500, 300)
	var own [3]int
	for i, f := range w.Files {
		own[i] = duplicate(t, int(f.Fd()))
	}
	door, err := Open(own[0], own[1], own[2], testLog{t})
	must(t, err)
	t.Cleanup(door.Close)
	o := &outcomes{dice: rand.New(rand.NewPCG(1, 5))}
	next, takes := map[string]uint64{}, uint64(0)
	must(t, door.Start("", func(id uint64, r Range) {
		var states []*atomic.Uint32
		charge := int64(0)
		takes++
		must(t, frame.Walk(r.Frames, func(one *frame.Frame) {
			states = append(states, r.State(one.At))
			charge += int64(one.Charge)
			key, number := string(one.Key), binary.NativeEndian.Uint64(one.Value)
			if number != next[key] {
				t.Errorf("frame %d of thread %s came in place of %d", number, key, next[key])
			}
			next[key] = number + 1
		}, nil))
		o.later(door.Gate(id), states, charge)
	}))
	for id := range uint64(2) {
		g := door.Gate(id + 1)
		g.MaxFrames.Store(100_000)
		g.MaxCharge.Store(1 << 30)
		g.MaxLength.Store(1 << 20)
		g.LingerNS.Store(int64(4 * time.Millisecond))
		g.Open.Store(1)
	}
	await := func(what string, done func() bool) {
		t.Helper()
		for limit := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
			door.mtx.Lock()
			so := done()
			door.mtx.Unlock()
			if so {
				return
			}
			if time.Now().After(limit) {
				t.Fatal("not", what)
			}
		}
	}
	w.Tell('n')
	await("200 ranges without an entry", func() bool { return takes > door.control.ring.put.Load()+200 })
	w.Tell('s')
	await("all frames", func() bool { return next["A"] == w.Accepted(0) && next["B"] == w.Accepted(1) })
	await("the end of following", func() bool { return door.Gate(1).Follows.Load() == 0 && door.Gate(2).Follows.Load() == 0 })
	o.open.Wait()
}

// followedSlab is a Door and a followed slab with the frames a to h; a to d are complete and taken.
type followedSlab struct {
	*module
	at   []uint64 // of the frames, and the end
	keys []string // of the taken frames
}

func newFollowedSlab(t *testing.T) *followedSlab {
	s := &followedSlab{module: newModule(t)}
	start, end := s.slab(0, "one", 3, 50, keyed("a", "b", "c", "d", "e", "f", "g", "h"))
	for i := range uint64(9) {
		s.at = append(s.at, start+i*(end-start)/8)
	}
	for i := 4; i < 8; i++ {
		s.mark(i, false)
	}
	d := s.door
	d.take = func(id uint64, r Range) { // no frame is done: the Door itself must remember the taken ones
		must(t, frame.Walk(r.Frames, func(f *frame.Frame) { s.keys = append(s.keys, fmt.Sprint(id, ":", string(f.Key))) }, nil))
	}
	d.timer, d.timerFD = os.NewFile(uintptr(duplicate(t, 0)), "no timer"), ^uintptr(0) // the test itself looks
	d.Gate(3).LingerNS.Store(int64(5 * time.Millisecond))
	for i := range 4 {
		s.entry(i, i+1)
	}
	s.want("3:a 3:b 3:c 3:d")
	if n := d.Gate(3).Follows.Load(); n != 54 {
		t.Errorf("follows is %d, want 54", n)
	}
	return s
}

// mark marks a frame as complete or not.
func (s *followedSlab) mark(frameNumber int, whole bool) {
	granule := (s.at[frameNumber] - s.at[0]) / frame.SlabGranule
	at := frame.SlabWhole + granule/64*8
	word := binary.NativeEndian.Uint64(s.memory[at:]) &^ (1 << (granule % 64))
	if whole {
		word |= 1 << (granule % 64)
	}
	binary.NativeEndian.PutUint64(s.memory[at:], word)
}

// entry puts an entry with some of the frames, and takes the entry.
func (s *followedSlab) entry(from, to int) {
	s.put(entry{id: 3, start: s.at[from], length: s.at[to] - s.at[from], first: 50})
	s.door.Drain()
}

// later lets some time pass and looks.
func (s *followedSlab) later(d time.Duration) {
	s.door.started = s.door.started.Add(-d)
	s.door.lookAll()
}

// want checks which frames have come.
func (s *followedSlab) want(keys string) {
	s.t.Helper()
	if got := strings.Join(s.keys, " "); got != keys {
		s.t.Errorf("%s came, want %s", got, keys)
	}
}

// Frames taken without an entry are skipped at their entry, also after the slab's reuse.
func TestDoor_EntryOfTakenFrames_Skipped(t *testing.T) {
	s := newFollowedSlab(t)
	s.mark(4, true)
	s.mark(6, true) // behind an unfinished frame
	s.later(time.Second)
	s.want("3:a 3:b 3:c 3:d 3:e")
	s.mark(5, true)
	s.entry(4, 6) // of which the first is taken
	s.want("3:a 3:b 3:c 3:d 3:e 3:f")
	s.later(time.Second)
	s.want("3:a 3:b 3:c 3:d 3:e 3:f 3:g")
	s.slab(0, "one", 3, 60, keyed("i", "j", "k", "l", "m", "n", "o", "p"))
	s.entry(5, 7)
	s.later(time.Second)
	s.want("3:a 3:b 3:c 3:d 3:e 3:f 3:g")
	if n := s.door.Gate(3).Follows.Load(); n != 0 {
		t.Errorf("follows is %d for a slab that is in use again", n)
	}
	s.put(entry{id: 3, start: s.at[0], length: s.at[2] - s.at[0], first: 60})
	s.door.Drain()
	s.want("3:a 3:b 3:c 3:d 3:e 3:f 3:g 3:i 3:j")
}

// Frames linger, and the Door leaves a slab without new frames.
func TestDoor_Followed_Lingers(t *testing.T) {
	s := newFollowedSlab(t)
	s.door.Gate(3).LingerNS.Store(int64(followLinger))
	accepted := time.Now()
	binary.NativeEndian.PutUint64(s.memory[s.at[4]+frame.HeaderSize:], uint64(accepted.UnixNano()))
	s.mark(4, true)
	s.later(5 * time.Millisecond)
	if time.Since(accepted) < followLinger/2 { // the machine was not stopped meanwhile
		s.want("3:a 3:b 3:c 3:d")
	}
	time.Sleep(followLinger)
	s.later(0)
	s.want("3:a 3:b 3:c 3:d 3:e")
	s.later(2 * followLinger)
	s.later(followQuiet)
	if n := s.door.Gate(3).Follows.Load(); n != 0 {
		t.Errorf("follows is %d without traffic", n)
	}
}

// A frame of an impossible size is left for its entry.
func TestDoor_FollowedFrameOfImpossibleSize_NotTaken(t *testing.T) {
	for _, size := range []uint32{0, 8, 17, frame.SlabBytes, 1<<32 - 8} {
		s := newFollowedSlab(t)
		binary.NativeEndian.PutUint32(s.memory[s.at[4]:], size)
		s.mark(4, true)
		s.later(time.Second)
		s.want("3:a 3:b 3:c 3:d")
	}
}

// The status subtracts the number of taken frames from the admitted ones.
func TestComplete_BitsBeforeAByte(t *testing.T) {
	memory := make([]byte, frame.SlabBytes)
	for _, granule := range []uint64{0, 5, 63, 64, 200} {
		at := frame.SlabWhole + granule/64*8
		binary.NativeEndian.PutUint64(memory[at:], binary.NativeEndian.Uint64(memory[at:])|1<<(granule%64))
	}
	for granule, want := range map[uint64]int64{0: 0, 1: 1, 5: 1, 6: 2, 63: 2, 64: 3, 65: 4, 200: 4, 201: 5, 8000: 5} {
		if n := complete(memory, frame.SlabHeadSize, frame.SlabHeadSize+granule*frame.SlabGranule); n != want {
			t.Errorf("%d complete frames before granule %d, want %d", n, granule, want)
		}
	}
}
