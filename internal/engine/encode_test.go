package engine

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/event"
	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/record"
)

// brokenSource panics, as a defect of ours could.
type brokenSource struct{}

func (brokenSource) Connection() string            { return "one" }
func (brokenSource) Topic() event.Topic            { return event.Topic{} }
func (brokenSource) Durability() record.Durability { return record.Disk }
func (brokenSource) Encode([]event.Field, time.Time) (event.Message, error) {
	panic("cannot do it")
}

// TestAnEventThatCannotBeEncodedIsLostAlone verifies that a panic costs one event only: the other records of
// the slab arrive, and the next start does not find the frame again.
func TestAnEventThatCannotBeEncodedIsLostAlone(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	spool := t.TempDir()
	frames := append(numbered("t", "k", 0, 1), frametest.Frame{Source: 1<<32 | 1, Fields: []frame.Field{frametest.Text("src", "1")}})
	frames = append(frames, numbered("t", "k", 1, 2)...)
	folder := leave(t, spool, slabOfFrames("one", 0, frames...))

	log := newLines()
	r := startAt(t, log, spool)
	r.sources.Store(&[]openSource{{brokenSource{}, 1}})
	r.configure(section("one", b.address()))
	b.consumed(t, "t", 2)
	eventually(t, "the folder is removed", func() bool { return !exists(folder) })

	s := r.open("one")
	s.put(frames...)
	b.consumed(t, "t", 4)
	s.settled()
	if c := r.status("one").Totals; c.Accepted != 6 || c.Acknowledged != 4 || dropped(c, "not encodable") != 2 {
		t.Errorf("account %+v", c)
	}
	log.want(t, 1, "error: the engine panicked in an event source", "cannot do it")
}
