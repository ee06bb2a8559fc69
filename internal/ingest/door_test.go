package ingest

import (
	"encoding/binary"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
	"unsafe"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
)

const patience = time.Minute

// collector takes ranges and stores the keys of their frames.
type collector struct {
	t    testing.TB
	mtx  sync.Mutex
	keys []string
	came chan struct{}
}

func newCollector(t testing.TB) *collector { return &collector{t: t, came: make(chan struct{}, 1)} }

func (c *collector) take(id uint64, r Range) {
	keys := keysOf(c.t, r)
	c.mtx.Lock()
	defer c.mtx.Unlock()
	for _, key := range keys {
		c.keys = append(c.keys, fmt.Sprint(id, ":", key))
	}
	select {
	case c.came <- struct{}{}:
	default:
	}
}

// wait waits for n frames, and returns them.
func (c *collector) wait(n int) []string {
	c.t.Helper()
	limit := time.After(patience)
	for {
		c.mtx.Lock()
		keys := slices.Clone(c.keys)
		c.mtx.Unlock()
		if len(keys) >= n {
			return keys
		}
		select {
		case <-c.came:
		case <-limit:
			c.t.Fatalf("%d of %d frames came: %q", len(keys), n, keys)
		}
	}
}

// Each range is taken once and in order, whether the reader sleeps or is behind, and while the file grows.
func TestDoor_Put_TakenOnceInOrder(t *testing.T) {
	const ranges = 5000
	m, c := newModule(t), newCollector(t)
	m.start("", c.take)
	for n := range ranges {
		at := n % (plainMost / 2 / frame.SlabBytes) * frame.SlabBytes
		if n >= plainMost/2/frame.SlabBytes { // the place was used before
			c.wait(n - plainMost/2/frame.SlabBytes + 1)
		}
		start, end := m.slab(at, "one", 1, uint64(n), keyed(fmt.Sprint(n)))
		for !m.put(entry{id: 3, slab: uint64(at), start: start, length: end - start}) {
			time.Sleep(time.Microsecond)
		}
		if n%500 == 499 {
			time.Sleep(time.Millisecond) // the reader falls asleep
		}
		if n == ranges-1 {
			c.wait(ranges)
			if got := m.state(uint64(at) + start).Load(); got != frame.Done {
				t.Errorf("the last frame's state is %#x", got)
			}
		}
	}
	for n, key := range c.wait(ranges) {
		if key != fmt.Sprint("3:", n) {
			t.Fatalf("number %d is %s", n, key)
		}
	}
}

func TestDoor_Asleep_WokenEachTime(t *testing.T) {
	m, c := newModule(t), newCollector(t)
	m.start("", c.take)
	for n := range 200 {
		for limit := time.Now().Add(patience); m.control.ring.asleep.Load() == 0; time.Sleep(time.Microsecond) {
			if time.Now().After(limit) {
				t.Fatal("the reader does not go to sleep")
			}
		}
		start, end := m.slab(0, "one", 1, uint64(n), keyed(fmt.Sprint(n)))
		m.put(entry{id: 1, start: start, length: end - start})
		c.wait(n + 1)
	}
}

// Drain returns after all entries present at the call were taken; after Close no entry is taken.
func TestDoor_DrainAndClose(t *testing.T) {
	m, c := newModule(t), newCollector(t)
	start, end := m.slab(0, "one", 1, 0, keyed("a", "b"))
	m.put(entry{id: 1, start: start, length: end - start})
	m.door.Drain() // before Start: nothing is taken
	m.start("", c.take)
	m.door.Drain()
	if got := c.wait(2); len(got) != 2 {
		t.Errorf("taken %q", got)
	}
	m.door.Close()
	start, end = m.slab(0, "one", 1, 2, keyed("c"))
	m.put(entry{id: 1, start: start, length: end - start})
	m.door.Drain()
	if got := c.wait(2); len(got) != 2 {
		t.Errorf("taken after Close: %q", got)
	}
}

// No entry of a damaged module ends the engine or the reading.
func TestDoor_EntriesThatCannotBe_RefusedAndSkipped(t *testing.T) {
	m, c := newModule(t), newCollector(t)
	m.start(privateFolder(t), c.take)
	start, end := m.slab(0, "one", 1, 0, keyed("good"))
	good := entry{id: 1, start: start, length: end - start}
	refused := 0
	for name, change := range map[string]func(e *entry){
		"no such pool":           func(e *entry) { e.pool = 3 },
		"empty":                  func(e *entry) { e.length = 0 },
		"in the head":            func(e *entry) { e.start = 8 },
		"askew":                  func(e *entry) { e.start += 4 },
		"past the file":          func(e *entry) { e.slab = 1 << 40 },
		"at the end of numbers":  func(e *entry) { e.slab = math.MaxUint64 &^ (frame.SlabBytes - 1) },
		"between slabs":          func(e *entry) { e.slab = 8 },
		"a sum that runs over":   func(e *entry) { e.length = math.MaxUint64 - e.start + 1 },
		"too large":              func(e *entry) { e.length = 1 << 31 },
		"larger than the file":   func(e *entry) { e.length = 1 << 20 },
		"no durable slabs":       func(e *entry) { e.pool = poolDurable },
		"no file of that number": func(e *entry) { e.pool, e.slab = poolFile, 77 },
	} {
		e := good
		change(&e)
		m.door.mtx.Lock()
		before := m.door.refused
		m.door.mtx.Unlock()
		m.put(e)
		m.door.Drain()
		m.door.mtx.Lock()
		if refused++; m.door.refused == before && refused > 1 {
			t.Errorf("%s: taken", name)
		}
		m.door.mtx.Unlock()
	}
	m.put(good)
	if got := c.wait(1); !slices.Equal(got, []string{"1:good"}) {
		t.Errorf("taken %q", got)
	}
	// Impossible counters: nothing is taken until the counters are possible.
	put := m.control.ring.put.Load()
	m.control.ring.put.Store(put + ringEntries + 1)
	m.door.Drain()
	m.control.ring.put.Store(put)
	frametest.SetState(m.memory, int(start), frame.Ready)
	m.put(good)
	c.wait(2)
}

// A large frame is copied out of its slab at once; its DONE reaches the slab later.
func TestDoor_LargeFrames_CopiedThenDone(t *testing.T) {
	folder := privateFolder(t)
	m := newModule(t)
	type taken struct {
		value int
		r     Range
		at    int
	}
	var all []taken
	m.start(folder, func(_ uint64, r Range) {
		_ = frame.Walk(r.Frames, func(f *frame.Frame) {
			all = append(all, taken{len(f.Value), r, f.At})
			if r.Stays {
				t.Error("a large frame is said to stay")
			}
		}, nil)
	})
	value := make([]byte, 300<<10)
	frames := frametest.Append(nil, frametest.Frame{Topic: "t", Value: value})
	at := uint64(plainMost / 2)
	start, end := m.slab(int(at), "one", 1, 0, frames)
	file := frametest.Slab("one", 1, 1, frames)
	path := filepath.Join(folder, "slab-5")
	if err := os.WriteFile(path, file, 0o600); err != nil {
		t.Fatal(err)
	}
	m.put(entry{id: 1, slab: at, start: start, length: end - start})
	m.put(entry{id: 1, pool: poolFile, slab: 5, start: start, length: end - start})
	m.door.Drain()
	if len(all) != 2 || all[0].value != len(value) || all[1].value != len(value) || all[0].r.Lasting || !all[1].r.Lasting {
		t.Fatalf("%d frames were taken", len(all))
	}
	stateOfFile := func() uint32 {
		content, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		return binary.NativeEndian.Uint32(content[start+frame.HeaderState:])
	}
	states := []func() uint32{func() uint32 { return m.state(at + start).Load() }, stateOfFile}
	for i := range all {
		state := all[i].r.State(all[i].at) // after take, like a range that waits for its connection
		time.Sleep(3 * latePace)
		if got := states[i](); got != frame.Ready {
			t.Errorf("frame %d: its state is %#x while it is needed", i, got)
		}
		state.Store(frame.Done)
		for limit := time.Now().Add(patience); states[i]() != frame.Done; time.Sleep(time.Millisecond) {
			if time.Now().After(limit) {
				t.Fatalf("frame %d: its state never becomes done", i)
			}
		}
	}
	m.door.mtx.Lock()
	defer m.door.mtx.Unlock()
	if n := len(m.door.late.list); n > 0 {
		t.Errorf("%d states are still looked after", n)
	}
}

// Rest finds exactly the frames never handed over, in the order of each stage.
func TestDoor_Rest_FindsEachOnceInOrder(t *testing.T) {
	folder := privateFolder(t)
	m, c := newModule(t), newCollector(t)
	durable := slices.Concat(region(slab("two", 4, "e", "f")), make([]byte, frame.SlabBytes), region(slab("one", 6, "late")))
	for name, content := range map[string][]byte{
		slabsName: durable, "slab-1": slab("two", 2, "c", "d"), "slab-2": slab("two", 0, "a", "b"), "other": nil,
	} {
		if err := os.WriteFile(filepath.Join(folder, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	m.start(folder, c.take)
	// Half of one slab was handed over, and all of another; a third was refilled since.
	start, end := m.slab(0, "one", 1, 2, keyed("2", "3", "4"))
	size := (end - start) / 3
	m.put(entry{id: 1, start: start, length: 2 * size})
	start, end = m.slab(frame.SlabBytes, "one", 1, 0, keyed("0", "1"))
	m.put(entry{id: 1, slab: frame.SlabBytes, start: start, length: end - start})
	start, end = m.slab(2*frame.SlabBytes, "one", 1, 5, keyed("x"))
	m.put(entry{id: 1, slab: 2 * frame.SlabBytes, start: start, length: end - start})
	m.put(entry{id: 2, pool: poolFile, slab: 2, start: start, length: end - start}) // a of a and b
	c.wait(5)
	m.slab(2*frame.SlabBytes, "one", 1, 7, keyed("7", "8"))
	start, _ = m.slab(plainMost/2, "one", 1, 9, frametest.Append(nil, frametest.Frame{Topic: "t", Key: []byte("9"), Value: make([]byte, 100<<10)}))
	frametest.SetWhole(m.memory[plainMost/2:], int(start), true)
	m.slab(plainMost/2+8*frame.SlabBytes, "one", 1, 10, frametest.Append(nil, frametest.Frame{Topic: "t", Key: []byte("10"), Value: make([]byte, 70<<10)}))
	m.put(entry{id: 2, pool: poolDurable, slab: 0, start: start, length: (end - start)}) // e, from the ring

	rest := m.door.Rest()
	var got []string
	for _, s := range rest {
		err := s.Each(func(f *frame.Frame) {
			got = append(got, s.Label+":"+string(f.Key))
			if s.Lasting != (s.Label == "two" || string(f.Key) == "late") {
				t.Errorf("frame %s: lasting is %v", f.Key, s.Lasting)
			}
			s.State(f.At).Store(frame.Done)
		}, func(_ *frame.Frame, err error) { t.Error(err) })
		if err != nil {
			t.Error(err)
		}
	}
	want := []string{"one:4", "one:late", "one:7", "one:8", "one:9", "one:10", "two:b", "two:c", "two:d", "two:f"}
	if !slices.Equal(got, want) {
		t.Errorf("found %q, want %q", got, want)
	}
	if taken := c.wait(7); !slices.Equal(taken[:5], []string{"1:2", "1:3", "1:0", "1:1", "1:x"}) || taken[6] != "2:e" {
		t.Errorf("taken %q", taken)
	}
	if again := m.door.Rest(); len(again) > 0 {
		t.Errorf("%d slabs are found again", len(again))
	}
}

// An engine refuses memory of another build, and memory that could shrink.
func TestOpen_MemoryThatCannotBeUsed_Refused(t *testing.T) {
	size := int64(unsafe.Sizeof(control{}))
	for name, row := range map[string]struct {
		control, slabs func() int
		want           string
	}{
		"empty control memory": {func() int { return memfd(t, "c", 0, 2) }, func() int { return memfd(t, "s", 0, 2) }, "other builds|different builds"},
		"other magic":          {func() int { return memfd(t, "c", size, 2) }, func() int { return memfd(t, "s", 0, 2) }, "different builds"},
		"control not sealed":   {func() int { return memfd(t, "c", size, 0) }, func() int { return memfd(t, "s", 0, 2) }, "not sealed"},
		"slabs not sealed":     {func() int { return memfd(t, "c", size, 2) }, func() int { return memfd(t, "s", 0, 0) }, "not sealed"},
		"not inherited":        {func() int { return 1 << 20 }, func() int { return 1 << 20 }, "bad file descriptor"},
	} {
		_, err := Open(row.control(), row.slabs(), memfd(t, "w", 0, 0), testLog{t})
		ok := false
		for want := range strings.SplitSeq(row.want, "|") {
			ok = ok || err != nil && strings.Contains(err.Error(), want)
		}
		if !ok {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
}
