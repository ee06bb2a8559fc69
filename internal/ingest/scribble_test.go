package ingest

import (
	"encoding/binary"
	"math/rand/v2"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/host"
)

// scribbleTime is how long memory is scribbled over.
func scribbleTime() time.Duration {
	if os.Getenv("RES_KAFKA_LONG") != "" {
		return time.Minute
	}
	return time.Second
}

// scribble writes to memory until stop is closed: bytes, bits, and plausible lengths and offsets.
func scribble(memory []byte, seed uint64, stop <-chan struct{}) {
	dice := rand.New(rand.NewPCG(seed, 1))
	numbers := []uint32{0, 1, 7, 8, 15, 16, 24, frame.Ready, frame.Done, frame.Null, 1 << 15, frame.SlabBytes, 1 << 31}
	for {
		select {
		case <-stop:
			return
		default:
		}
		for range 100 {
			at := dice.IntN(len(memory) - 8)
			switch dice.IntN(3) {
			case 0:
				memory[at] = byte(dice.Uint32())
			case 1:
				memory[at] ^= 1 << dice.IntN(8)
			case 2:
				binary.NativeEndian.PutUint32(memory[at&^3:], numbers[dice.IntN(len(numbers))])
			}
		}
	}
}

// readAll reads everything reachable from a range, twice, like an engine.
func readAll(r Range) (seen int) {
	look := func(b []byte) {
		for range 2 {
			for _, c := range b {
				seen += int(c)
			}
		}
	}
	var own []byte
	visit := func(f *frame.Frame) {
		look(f.Topic)
		look(f.Key)
		look(f.Value)
		_ = f.EachField(func(fd frame.Field) { look(fd.Name); look(fd.Value) })
		var err error
		if own, err = f.Own(own); err == nil {
			_ = f.EachField(func(fd frame.Field) { look(fd.Name); look(fd.Value) })
		}
		_ = r.State(f.At).Load()
	}
	_ = frame.Walk(r.Frames, visit, func(f *frame.Frame, _ error) { _ = r.State(f.At).Load() })
	return seen
}

// someFrames are frames of all kinds.
func someFrames() []byte {
	var frames []byte
	for i := range 40 {
		f := frametest.Frame{Topic: "topic", Key: []byte("key"), Value: make([]byte, i*13), Charge: uint32(i)}
		if i%3 == 0 {
			f.Fields = []frame.Field{frametest.Text("name", "value"), frametest.Integer("number", 5), {Name: []byte("null")}}
		}
		frames = frametest.Append(frames, f)
	}
	return frames
}

// TestDoor_MemoryScribbledOver_Survives verifies that random writes to shared memory, also during a read,
// neither end the engine nor make a reader exceed its checked bounds. The Door would log the panic of such a
// reader.
func TestDoor_MemoryScribbledOver_Survives(t *testing.T) {
	m := newModule(t)
	m.door.log = noPanic{t}
	var ranges atomic.Int64
	m.start(privateFolder(t), func(_ uint64, r Range) { ranges.Add(1); readAll(r) })
	frames := someFrames()
	const slabs = 8
	var start, end uint64
	for i := range slabs {
		start, end = m.slab(i*frame.SlabBytes, "one", 1, uint64(i), frames)
	}
	size := int(unsafe.Sizeof(*m.control))
	controlled := unsafe.Slice((*byte)(unsafe.Pointer(m.control)), size)
	stop := make(chan struct{})
	var all sync.WaitGroup
	used := m.memory[:slabs*frame.SlabBytes]
	ring := controlled[unsafe.Offsetof(m.control.ring):unsafe.Offsetof(m.control.gates)]
	for i, memory := range [][]byte{used[:frame.SlabHeadSize], used[:4096], used, ring, controlled[:4096]} {
		all.Go(func() { scribble(memory, uint64(i), stop) })
	}
	began := time.Now()
	for time.Since(began) < scribbleTime() || ranges.Load() < 100 && time.Since(began) < patience {
		for i := range slabs {
			copy(m.memory[i*frame.SlabBytes+int(start):], frames)
			put := m.control.ring.put.Load()
			e := entry{id: 1, slab: uint64(i * frame.SlabBytes), start: start, length: end - start}
			m.control.ring.entries[put%ringEntries] = e
			m.door.mtx.Lock()
			m.control.ring.put.Store(m.door.next + 1)
			m.door.mtx.Unlock()
			m.door.Drain()
		}
		for _, s := range m.door.Rest() {
			readAll(Range{Frames: s.Clone().Memory[min(int(start), len(s.Memory)):], Stays: true})
			_ = s.Each(func(*frame.Frame) {}, func(*frame.Frame, error) {})
		}
	}
	close(stop)
	all.Wait()
	if n := ranges.Load(); n < 100 {
		t.Errorf("only %d ranges were taken", n)
	}
}

// noPanic fails a test after a logged panic.
type noPanic struct{ t testing.TB }

func (l noPanic) Log(_ host.Level, _ string, _ int, _, text string) {
	if strings.Contains(text, "panicked") {
		l.t.Error(text)
	}
}

// A number read twice, for the check and for the use, may change in between. Here all numbers of a frame
// change all the time.
func TestDoor_NumbersFlicker_ReadOnce(t *testing.T) {
	m := newModule(t)
	m.door.log = noPanic{t}
	m.start("", func(_ uint64, r Range) { readAll(r) })
	start, end := m.slab(0, "one", 1, 0, frametest.Append(nil, frametest.Frame{
		Topic: "topic", Key: []byte("key"), Value: make([]byte, 100), Fields: []frame.Field{frametest.Text("name", "value")},
	}))
	content := int(start) + frame.HeaderSize
	field := content + frame.HeadSize + len("topic") + len("key") + 100
	var words []func(big bool)
	for _, at := range []int{
		int(start), int(start) + frame.HeaderLength, content + frame.HeadTopicLength, content + frame.HeadKeyLength,
		content + frame.HeadValueLength, content + frame.HeadFieldCount, field, field + frame.FieldValueLength,
	} {
		was := binary.NativeEndian.Uint32(m.memory[at:])
		words = append(words, func(big bool) {
			n := was
			if big {
				n = 1 << 30
			}
			binary.NativeEndian.PutUint32(m.memory[at:], n)
		})
	}
	stop := make(chan struct{})
	var all sync.WaitGroup
	all.Go(func() {
		for n := 0; ; n++ {
			if n%1024 == 0 {
				select {
				case <-stop:
					return
				default:
				}
			}
			for _, set := range words[n/64%len(words):][:1] { // one word at a time, so the reader passes the other checks
				set(true)
				set(false)
			}
		}
	})
	for limit := time.Now().Add(scribbleTime()); time.Now().Before(limit); {
		for range 100 {
			m.put(entry{id: 1, start: start, length: end - start})
		}
		m.door.Drain()
	}
	close(stop)
	all.Wait()
}

// FuzzDoor fuzzes the entry, the slab's head and its frames, with a concurrent writer.
func FuzzDoor(f *testing.F) {
	file := frametest.Slab("one", 1, 0, someFrames())
	start := int(binary.NativeEndian.Uint32(file[frame.SlabFrames:]))
	f.Add(uint64(0), uint64(0), uint64(start), uint64(len(someFrames())), file[:frame.SlabHeadSize], someFrames())
	f.Add(uint64(1), uint64(frame.SlabBytes), uint64(start), uint64(64), file[:100], someFrames()[:64])
	m := newModule(f)
	m.start(privateFolder(f), func(_ uint64, r Range) { readAll(r) })
	m.grow(4 * frame.SlabBytes)
	f.Fuzz(func(t *testing.T, pool, slab, start, length uint64, head, frames []byte) {
		m.t, m.door.log = t, noPanic{t}
		memory := slices.Concat(head[:min(len(head), frame.SlabHeadSize)], make([]byte, 2*frame.SlabBytes))
		copy(memory[min(start, uint64(len(memory))):], frames)
		copy(m.memory, memory[:2*frame.SlabBytes])
		stop := make(chan struct{})
		var all sync.WaitGroup
		all.Go(func() { scribble(m.memory[:frame.SlabBytes], slab, stop) })
		m.put(entry{id: 1, pool: pool % 4, slab: slab, start: start, length: length})
		m.door.Drain()
		for _, s := range m.door.Rest() {
			_ = s.Clone().Each(func(*frame.Frame) {}, func(*frame.Frame, error) {})
		}
		close(stop)
		all.Wait()
	})
}
