package engine

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/ingest"
)

// reusedSlab is a slab that is filled again after the end of its frames, like the stage's.
type reusedSlab struct {
	memory []byte
	used   int
	frames []int
}

// free reports whether each frame is done.
func (s *reusedSlab) free() bool {
	for _, at := range s.frames {
		if frame.State(s.memory, at).Load() != frame.Done {
			return false
		}
	}
	return true
}

func (s *reusedSlab) empty() { s.used, s.frames = 0, s.frames[:0] }

// put appends a frame, and reports whether there is room.
func (s *reusedSlab) put(f frametest.Frame) bool {
	one := frametest.Append(nil, f)
	if len(s.memory)-s.used < len(one) {
		return false
	}
	copy(s.memory[s.used:], one)
	s.frames = append(s.frames, s.used)
	s.used += len(one)
	return true
}

// TestTake_SlabsFilledAgain_EveryRecordOnceInOrder verifies lots over memory that the stage fills again at the
// earliest moment, with a broker that is slow and closes connections.
func TestTake_SlabsFilledAgain_EveryRecordOnceInOrder(t *testing.T) {
	const topics, records = 3, 6000
	names := []string{"a", "b", "c"}
	b := newBroker(t, kfake.SeedTopics(1, names...))
	var mtx sync.Mutex
	dice := rand.New(rand.NewPCG(3, 4))
	b.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		mtx.Lock()
		n := dice.IntN(60)
		mtx.Unlock()
		if n == 0 {
			return nil, errors.New("closed by the test"), true
		}
		time.Sleep(time.Duration(n%6) * time.Millisecond)
		return nil, nil, false
	})
	r := start(t, newLines())
	r.configure(section("one", b.address(), "linger_ms = 0", "reconnect_backoff_ms = 1", "reconnect_backoff_max_ms = 5"))
	s := r.open("one")
	slabs := make([]*reusedSlab, 3)
	for i := range slabs {
		slabs[i] = &reusedSlab{memory: make([]byte, frame.SlabBytes/4)}
	}
	of := rand.New(rand.NewPCG(5, 6))
	counts := [topics]int{}
	full := 0
	for n, slab := 0, slabs[0]; n < records; {
		from := slab.used
		room := true
		for range 1 + of.IntN(20) {
			topic := of.IntN(topics)
			f := frametest.Frame{Topic: names[topic], Key: []byte("k"), Value: fmt.Appendf(nil, "%d", counts[topic]), AcceptedNS: time.Now().UnixNano()}
			if of.IntN(4) == 0 {
				f.Fields = []frame.Field{frametest.Text("padding", string(make([]byte, of.IntN(200))))}
			}
			if room = slab.put(f); !room {
				break
			}
			counts[topic]++
			n++
		}
		if slab.used > from {
			r.Take(s.id, ingest.Range{Frames: slab.memory[from:slab.used], Stays: true})
		}
		if of.IntN(8) == 0 && slab.free() {
			slab.empty()
		}
		for !room {
			for _, next := range slabs {
				if next != slab && next.free() {
					next.empty()
					slab, room = next, true
					full++
					break
				}
			}
			if !room {
				time.Sleep(100 * time.Microsecond)
			}
		}
	}
	for topic, n := range counts {
		for i, got := range b.consumed(t, names[topic], n) {
			if string(got.Value) != fmt.Sprint(i) {
				t.Fatalf("topic %s: record %d has value %q", names[topic], i, got.Value)
			}
		}
	}
	for i, slab := range slabs {
		eventually(t, fmt.Sprintf("slab %d is free", i), slab.free)
	}
	if full < 20 {
		t.Errorf("%d slabs were filled", full)
	}
}
