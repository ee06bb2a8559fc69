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

// lotOf returns the lot of a topic's plain records in a range.
func lotOf(frames []byte, topic string) *lot {
	l := &lot{gate: new(Gate), topic: topic}
	_ = frame.Walk(frames, func(f *frame.Frame) {
		if f.Source == 0 && string(f.Topic) == topic {
			l.add(frames, f)
		}
	}, nil)
	l.at = int(l.runs[0].start) * frame.SlabGranule
	l.edge = len(frames)
	return l
}

// TestLot_RangesOfOneSlab_Join verifies that the ranges of a slab become one lot for each topic, whose records
// are those of the topic, in order.
func TestLot_RangesOfOneSlab_Join(t *testing.T) {
	slab, ranges, want := lotSlab()
	for topic, values := range want {
		first := lotOf(slab[ranges[0][0]:ranges[0][1]], topic)
		for _, r := range ranges[1:] {
			if !first.Join(lotOf(slab[r[0]:r[1]], topic)) {
				t.Fatalf("topic %s: a range does not join", topic)
			}
		}
		if apart := bytes.Clone(slab); first.Join(lotOf(apart, topic)) {
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
		l := lotOf(slab, "a")
		l.reports = &Reports{ID: 1}
		for range 1 + dice.IntN(6) {
			slab[dice.IntN(len(slab))] = byte(dice.Uint32())
		}
		records := kafkatest.Records(make([]record.Record, l.unread+1)...)
		total, charge := 0, int64(0)
		read := records[:l.Read(records)]
		for _, r := range read {
			charge += r.Charge
			total += frame.HeaderSize + len(r.Key) + len(r.Value)
			for _, h := range r.Headers {
				total += len(h.Name) + len(h.Value)
			}
			r.Staged.Store(frame.Done)
		}
		if total > len(slab) {
			t.Fatalf("%d bytes of records in a lot of %d", total, len(slab))
		}
		frames := int64(len(records) - 1)
		if done, gone := l.gate.DoneFrames.Load()+int64(len(read)), l.gate.DoneCharge.Load()+charge; done != frames || gone != 7*frames {
			t.Fatalf("%d frames and a charge of %d have ended, want %d and %d", done, gone, frames, 7*frames)
		}
	}
}

// TestLot_FramesDamaged_Finished verifies that a frame without a readable record at its turn is marked as done
// once and counted at the gate, and that other topics' frames and later records stay. Such frames kept their
// slab and their share of the gate until the next engine.
func TestLot_FramesDamaged_Finished(t *testing.T) {
	const charge = 7
	content := frame.HeaderSize + frame.HeadSize
	for name, damage := range map[string]func(f []byte){
		"topic":        func(f []byte) { f[content] = 'b' },
		"source":       func(f []byte) { f[frame.HeaderSize+frame.HeadSource] = 1 },
		"state":        func(f []byte) { frametest.SetState(f, 0, 5) },
		"already done": func(f []byte) { frametest.SetState(f, 0, frame.Done) },
		"key's length": func(f []byte) { f[frame.HeaderSize+frame.HeadKeyLength+2] = 1 },
		"fields":       func(f []byte) { f[frame.HeaderSize+frame.HeadFieldCount] = 200 },
		"length":       func(f []byte) { f[frame.HeaderLength+2] = 1 },
		"charge":       func(f []byte) { f[frame.HeaderCharge] = 100 },
	} {
		t.Run(name, func(t *testing.T) {
			var slab []byte
			var at []int
			for i, topic := range []string{"a", "b", "a", "b", "a"} {
				at = append(at, len(slab))
				slab = frametest.Append(slab, frametest.Frame{Topic: topic, Value: []byte{byte(i)}, Charge: charge})
			}
			l := lotOf(slab, "a")
			damage(slab[at[2]:])
			want := []byte{0, 4}
			if name == "charge" {
				want = []byte{0, 2, 4}
			}
			records := kafkatest.Records(make([]record.Record, 3)...)
			n := l.Read(records)
			if n != len(want) {
				t.Fatalf("read %d records, want %d", n, len(want))
			}
			var held int64
			for i, r := range records[:n] {
				held += r.Charge
				if r.Value[0] != want[i] {
					t.Errorf("record %d has value %d, want %d", i, r.Value[0], want[i])
				}
			}
			if frames, weight := l.gate.DoneFrames.Load(), l.gate.DoneCharge.Load(); frames != int64(3-n) || weight+held != 3*charge {
				t.Errorf("%d frames with a charge of %d were finished beside %d records of %d", frames, weight, n, held)
			}
			for i, begin := range at {
				state := frame.State(slab, begin).Load()
				if done := i == 2 && n == 2; done != (state == frame.Done) {
					t.Errorf("frame %d has state %#x", i, state)
				}
			}
		})
	}
}

// TestTake_FramesDamaged_EachCountedOnce verifies that a frame with damaged content, length or state costs one
// record and no other frame.
func TestTake_FramesDamaged_EachCountedOnce(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	log := newLines()
	r := start(t, log)
	r.configure(section("one", b.address()))
	s := r.open("one")
	var slab []byte
	var at []int
	for i := range 5 {
		at = append(at, len(slab))
		slab = frametest.Append(slab, frametest.Frame{Topic: "t", Value: []byte{byte(i)}, Charge: 1})
	}
	slab[at[1]+frame.HeaderLength+2] = 1
	frametest.SetState(slab, at[2], 5)
	slab[at[3]+frame.HeaderSize+frame.HeadKeyLength+2] = 1
	s.turn = 1 // in place
	s.take(slab, len(at), int64(len(at)))
	s.settled()
	if got := b.consumed(t, "t", 2); got[0].Value[0] != 0 || got[1].Value[0] != 4 {
		t.Errorf("records %d and %d were sent", got[0].Value, got[1].Value)
	}
	for i, begin := range at {
		if state := frame.State(slab, begin).Load(); state != frame.Done {
			t.Errorf("frame %d has state %#x", i, state)
		}
	}
	if c := r.status("one").Totals; c.Accepted != 5 || dropped(c, notEncodable) != 3 {
		t.Errorf("account %+v", c)
	}
	log.want(t, 1, "1 record(s) that cannot be read dropped") // later ones within a minute are counted only
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
