package produce

import (
	"fmt"
	"testing"

	"reskafka/internal/record"
	"reskafka/test/diagram"
)

const page = "../../../docs/produce.md"

// states follows the records and partitions of histories, by the diagrams of docs/produce.md. A step is the
// difference between two looks, after each call of the producer.
type states struct{ records, partitions *diagram.Counts }

func readStates(t *testing.T) states {
	t.Helper()
	records, err := diagram.Read(page, "### A record in the producer")
	if err != nil {
		t.Fatal(err)
	}
	partitions, err := diagram.Read(page, "### Several batches of a partition")
	if err != nil {
		t.Fatal(err)
	}
	return states{records, partitions}
}

func (s states) check(t *testing.T) {
	t.Log("records:")
	s.records.Check(t)
	t.Log("partitions:")
	s.partitions.Check(t)
}

// seen is the last look at a history.
type seen struct {
	states
	seed       uint64
	open       []*record.Record // without an outcome
	records    map[*record.Record]string
	partitions map[*partition]string
	known      int // records of history.sent
}

func newSeen(s states, seed uint64) *seen {
	return &seen{states: s, seed: seed, records: map[*record.Record]string{}, partitions: map[*partition]string{}}
}

// observe looks at all records and partitions, and counts their steps.
func (h *history) observe() {
	s := h.seen
	now := map[*record.Record]string{}
	h.b.look(func() {
		for _, part := range h.b.topics["t"].partitions {
			for _, b := range part.queue {
				state := b.state()
				for _, r := range b.records {
					now[r] = state
				}
			}
			s.step(s.states.partitions, before(s.partitions, part), part.state(h.b.Producer), fmt.Sprintf("partition %d", part.number))
			s.partitions[part] = part.state(h.b.Producer)
		}
	})
	s.open = append(s.open, h.sent[s.known:]...)
	s.known = len(h.sent)
	open := s.open[:0]
	for _, r := range s.open {
		state := now[r]
		if err, ended := h.outcomes[r]; ended {
			state = h.end(err)
		} else {
			open = append(open, r)
		}
		s.step(s.states.records, before(s.records, r), state, string(r.Value))
		s.records[r] = state
	}
	s.open = open
}

// before returns the state of the last look.
func before[K comparable](states map[K]string, of K) string {
	if state, ok := states[of]; ok {
		return state
	}
	return "[*]"
}

func (s *seen) step(counts *diagram.Counts, from, to, of string) {
	if from != to {
		counts.Step(from, to, func() string { return fmt.Sprintf("%q, history %d", of, s.seed) })
	}
}

// end is the state of an outcome.
func (h *history) end(err error) string {
	if err == nil {
		return "acknowledged"
	}
	if _, final := h.b.Permanent(err); final {
		return "refused"
	}
	return "returned"
}

// state is the state of a batch's records.
func (b *recordBatch) state() string {
	switch {
	case b.written():
		return "written"
	case b.flight != nil:
		return "loaded"
	case b.result != nil:
		return "failed"
	case b.doubtful:
		return "doubtful"
	}
	return "queued"
}

// state is the state of a partition.
func (part *partition) state(p *Producer) string {
	switch {
	case part.failed:
		return "draining"
	case part.open && part.openAs == p.identity:
		return "open"
	}
	return "alone"
}

// TestForgo_Batches_EndNumbers verifies the end of a producer id for batches possibly at a broker, and the reuse of the
// numbers of other batches with the present id.
func TestForgo_Batches_EndNumbers(t *testing.T) {
	other := identity{id: 5, given: true}
	written := &flight{}
	written.state.Store(departed)
	loaded := &flight{}
	for _, test := range []struct {
		name    string
		batches []recordBatch // without their numbers
		as      identity      // zero = the present one
		plain   bool          // without numbers
		dropped bool
		next    int32 // the number of the next batch
	}{
		{name: "never sent", batches: []recordBatch{{}}, plain: true, next: 9},
		{name: "unwritten", batches: []recordBatch{{flight: loaded}, {}}, next: 3},
		{name: "of an earlier id", batches: []recordBatch{{}}, as: other, next: 9},
		{name: "in doubt", batches: []recordBatch{{doubtful: true}}, dropped: true, next: 9},
		{name: "written", batches: []recordBatch{{flight: written}}, dropped: true, next: 9},
		{name: "the second in doubt", batches: []recordBatch{{}, {doubtful: true}}, dropped: true, next: 9},
		{name: "the second written", batches: []recordBatch{{}, {flight: written}}, dropped: true, next: 9},
		{name: "written without numbers", batches: []recordBatch{{flight: written}}, plain: true, next: 9},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := playing(t, true)
			part := b.topic(0).partitions[0]
			b.look(func() {
				part.identity, part.following = b.identity, 9
				var batches []*recordBatch
				for i := range test.batches {
					one := &test.batches[i]
					if one.sequenced = !test.plain; one.sequenced {
						one.identity, one.sequence = b.identity, int32(3+i)
						if test.as.given {
							one.identity = test.as
						}
					}
					batches = append(batches, one)
				}
				b.forgo(part, batches...)
				if b.identity.given == test.dropped || part.following != test.next {
					t.Errorf("the id stays: %v, the next number is %d, want %d", b.identity.given, part.following, test.next)
				}
			})
		})
	}
}

// TestOfferAgain_NewIdentity_NoBatchFollows verifies that no batch of a new producer id leaves beside a batch of the
// one before: a broker accepts the first number of an id behind a refused batch.
func TestOfferAgain_NewIdentity_NoBatchFollows(t *testing.T) {
	b, part := opened(t, true)
	b.sendKeys("k")
	first := b.leaves(0, true)
	b.sendKeys("k")
	if !b.ready(part) {
		t.Fatal("no second batch is ready")
	}
	b.look(func() {
		b.identity = identity{id: 8, given: true}
		b.offerAgain()
		if part.listed != nil {
			t.Error("a batch of the new id may leave")
		}
	})
	b.answers(first, nil)
	if !b.ready(part) {
		t.Error("no batch leaves after the answer")
	}
}
