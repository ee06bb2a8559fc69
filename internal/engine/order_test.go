package engine

import (
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/event"
	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/ingest"
	"reskafka/internal/record"
)

// echoSource makes records of topic t from events: the text of the first field.
type echoSource struct{}

func (echoSource) Connection() string            { return "one" }
func (echoSource) Topic() event.Topic            { return event.Topic{} }
func (echoSource) Durability() record.Durability { return record.Unsaid }
func (echoSource) Encode(fields []event.Field, _ time.Time) (event.Message, error) {
	return event.Message{Topic: "t", Key: []byte("k"), Value: append([]byte(nil), fields[0].Text...)}, nil
}

// TestTake_EventsAmongRecords_KeepsOrder verifies the order of events and plain records of one topic in one range. Events
// are collected as records and plain records in lots, so each kind must be passed on before the other.
func TestTake_EventsAmongRecords_KeepsOrder(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t", "other"))
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")
	r.sources.Store(&[]openSource{{echoSource{}, 1}})
	const ranges, each = 4, 3 * takenMost // more than one hand-over of records
	var want []string
	for n := range ranges {
		var slab []byte
		frames := 0
		add := func(f frametest.Frame) {
			f.AcceptedNS = time.Now().UnixNano()
			slab = frametest.Append(slab, f)
			frames++
		}
		for i := range each {
			value := fmt.Sprintf("%d %d", n, i)
			if run := i / (1 + n*n); run%2 == 0 { // runs of 1, 2, 5 and 10 of a kind
				add(frametest.Frame{Topic: "t", Key: []byte("k"), Value: []byte(value)})
			} else {
				add(frametest.Frame{Source: 1<<32 | 1, Fields: []frame.Field{frametest.Text("value", value)}})
			}
			want = append(want, value)
			if i%7 == 0 {
				add(frametest.Frame{Topic: "other", Value: []byte("x")})
			}
		}
		s.HeldFrames.Add(int64(frames))
		s.Admitted.Add(int64(frames))
		r.Take(s.id, ingest.Range{Frames: slab, Stays: true})
	}
	s.settled()
	for i, got := range b.consumed(t, "t", len(want)) {
		if string(got.Value) != want[i] {
			t.Fatalf("record %d is %q, want %q", i, got.Value, want[i])
		}
	}
}
