package engine

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"runtime/debug"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/ingest"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// lotSlab is a slab with frames of two topics, an event and a finished frame, in three ranges.
func lotSlab() (slab []byte, ranges [][2]int, want map[string][]string) {
	want = map[string][]string{}
	slab = make([]byte, 0, frame.SlabBytes)
	for part := range 3 {
		from := len(slab)
		for i := range 20 {
			f := frametest.Frame{AcceptedNS: int64(1 + 20*part + i), Topic: "a", Key: []byte{}, Value: fmt.Appendf(nil, "%d/%d", part, i), Charge: 7}
			if i%3 == 1 {
				f.Topic = "b"
			}
			if i%4 == 2 {
				f.Fields = []frame.Field{frametest.Text("name", "of "+string(f.Value))}
			}
			switch i {
			case 5:
				f.Source = 1
			default:
				want[f.Topic] = append(want[f.Topic], string(f.Value))
			}
			slab = frametest.Append(slab, f)
			if i == 7 {
				at := len(slab)
				slab = frametest.Append(slab, f)
				frametest.SetState(slab, at, frame.Done)
			}
		}
		ranges = append(ranges, [2]int{from, len(slab)})
	}
	return slab, ranges, want
}

// TestLot_RangesOfOneSlab_Join verifies that the ranges of a slab become one lot for each topic, whose records
// are those of the topic, in order.
func TestLot_RangesOfOneSlab_Join(t *testing.T) {
	slab, ranges, want := lotSlab()
	for topic, values := range want {
		first := &lot{memory: slab[ranges[0][0]:ranges[0][1]], edge: ranges[0][1], topic: topic}
		for _, r := range ranges[1:] {
			if !first.Join(&lot{memory: slab[r[0]:r[1]], edge: r[1] - r[0], topic: topic}) {
				t.Fatalf("topic %s: a range does not join", topic)
			}
		}
		if apart := bytes.Clone(slab); first.Join(&lot{memory: apart, edge: len(apart), topic: topic}) {
			t.Error("frames of another slab join")
		}
		records := kafkatest.Records(make([]record.Record, len(values))...)
		n := 0
		for n < len(records) {
			most := min(7, len(records)-n)
			if got := first.Read(records[n : n+most]); got != most {
				t.Fatalf("topic %s: read %d of %d records", topic, got, most)
			}
			n += most
		}
		if more := first.Read(kafkatest.Records(record.Record{})); more != 0 {
			t.Errorf("topic %s: there is another record", topic)
		}
		for i, r := range records {
			if string(r.Value) != values[i] || r.Key == nil || r.Charge != 7 || r.Staged.Load() != frame.Ready {
				t.Errorf("topic %s: record %d is %+v, want value %q", topic, i, r, values[i])
			}
			if len(r.Headers) > 0 && (r.Headers[0].Name != "name" || string(r.Headers[0].Value) != "of "+values[i]) {
				t.Errorf("topic %s: record %d has headers %q", topic, i, r.Headers)
			}
		}
	}
}

// TestLot_MemoryOverwritten_StaysInBounds verifies that no content of the memory makes Read panic, or return
// bytes outside the lot.
func TestLot_MemoryOverwritten_StaysInBounds(t *testing.T) {
	whole, _, _ := lotSlab()
	dice := rand.New(rand.NewPCG(1, 2))
	for range 20_000 {
		slab := bytes.Clone(whole)
		for range 1 + dice.IntN(6) {
			slab[dice.IntN(len(slab))] = byte(dice.Uint32())
		}
		l := &lot{memory: slab, edge: len(slab), topic: "a", reports: &Reports{ID: 1}}
		records := kafkatest.Records(make([]record.Record, 60)...)
		total := 0
		for _, r := range records[:l.Read(records)] {
			total += frame.HeaderSize + len(r.Key) + len(r.Value)
			for _, h := range r.Headers {
				total += len(h.Name) + len(h.Value)
			}
			r.Staged.Store(frame.Done)
		}
		if total > len(slab) {
			t.Fatalf("%d bytes of records in a lot of %d", total, len(slab))
		}
	}
}

// TestTake_LotsOfSeveralTopics_AllDelivered verifies that the records of more topics than a range has lots arrive
// in order.
func TestTake_LotsOfSeveralTopics_AllDelivered(t *testing.T) {
	const topics, each = lotsMost + 5, 40
	var names []string
	for topic := range topics {
		names = append(names, fmt.Sprint("topic", topic))
	}
	b := newBroker(t, kfake.SeedTopics(1, names...))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")
	for i := range each {
		var frames []frametest.Frame
		for topic := range topics {
			frames = append(frames, frametest.Frame{Topic: names[topic], Key: []byte("k"), Value: fmt.Append(nil, i)})
		}
		s.put(frames...)
	}
	s.settled()
	for topic := range topics {
		for i, got := range b.consumed(t, names[topic], each) {
			if string(got.Value) != fmt.Sprint(i) {
				t.Fatalf("topic %d: record %d is %q", topic, i, got.Value)
			}
		}
	}
}

// TestTake_PageOfSlabGone_NothingInNextRange verifies that a range with a missing page leaves no lot for the
// next range, which may belong to another connection.
func TestTake_PageOfSlabGone_NothingInNextRange(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t", "secret"))
	r := start(t, newLines())
	r.configure(section("one", b.address()), section("two", b.address()))
	one, two := r.open("one"), r.open("two")
	page := os.Getpagesize()
	memory, err := syscall.Mmap(-1, 0, 2*page, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = syscall.Munmap(memory) }()
	whole := len(frametest.Append(nil, frametest.Frame{Topic: "secret", Value: make([]byte, page/2)}))
	copy(memory, frametest.Append(nil, frametest.Frame{Topic: "secret", Value: make([]byte, page/2+page-whole)}))
	if err := syscall.Mprotect(memory[page:], syscall.PROT_NONE); err != nil {
		t.Fatal(err)
	}
	const rounds = 20
	for i := range rounds {
		func() {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
			defer func() {
				if recover() == nil {
					t.Error("the missing page was read")
				}
			}()
			r.Take(one.id, ingest.Range{Frames: memory, Stays: true})
		}()
		two.turn = 1
		two.put(frametest.Frame{Topic: "t", Value: fmt.Append(nil, i)})
	}
	two.settled()
	if c := r.status("two"); len(c.Topics) != 1 || c.Totals.Accepted != rounds {
		t.Errorf("account of the other connection: %+v", c)
	}
}

// TestTake_FrameStoredByDeadEngine_IsNotSentAgain verifies that a frame whose record an earlier engine has on
// disk is finished, and makes no record.
func TestTake_FrameStoredByDeadEngine_IsNotSentAgain(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")
	slab := frametest.Append(nil, frametest.Frame{Topic: "t", Value: []byte("stored")})
	frametest.SetState(slab, 0, frame.Stored)
	slab = frametest.Append(slab, frametest.Frame{Topic: "t", Value: []byte("sent")})
	s.take(slab, 2, 0)
	s.settled()
	if got := b.consumed(t, "t", 1); string(got[0].Value) != "sent" {
		t.Errorf("record %q was sent", got[0].Value)
	}
	if state := frame.State(slab, 0).Load(); state != frame.Done {
		t.Errorf("the stored frame has state %#x", state)
	}
	if c := r.status("one").Totals; c.Accepted != 1 {
		t.Errorf("account %+v", c)
	}
}
