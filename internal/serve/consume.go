package serve

import (
	"strings"
	"sync"

	"reskafka/internal/boundary"
	"reskafka/internal/host"
	"reskafka/internal/ingest"
	"reskafka/internal/kafka/consume"
)

// delivery is the progress of the subscription's thread, for the subscription's consumer. After forget the
// shared memory serves another subscription, while the consumer may read for a while longer.
type delivery struct {
	waiter

	mtx    sync.Mutex
	shared *ingest.Progress // nil = forgotten
	areas  *areas
	area   int    // number of the area of the last answer, 0 = none
	last   uint64 // delivered at forget

	predecessor string             // the member of a killed engine, until it is asked for
	positions   []consume.Position // the same of its messages
	joined      func(member string)
}

var (
	_ consume.Progress   = (*delivery)(nil)
	_ consume.Membership = (*delivery)(nil)
)

// Delivered implements consume.Progress.
func (d *delivery) Delivered() uint64 {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if d.shared == nil {
		return d.last
	}
	return d.shared.Delivered()
}

// Hurry implements consume.Progress.
func (d *delivery) Hurry(set bool) {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if d.shared != nil {
		d.shared.Hurry(set)
	}
}

// Predecessor implements consume.Membership.
func (d *delivery) Predecessor() string {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	predecessor := d.predecessor
	d.predecessor = ""
	return predecessor
}

// Positions implements consume.Membership.
func (d *delivery) Positions() []consume.Position {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	positions := d.positions
	d.positions = nil
	return positions
}

// Joined implements consume.Membership.
func (d *delivery) Joined(member string) {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if d.shared != nil {
		d.joined(member)
	}
}

// forget ends the use of the shared memory.
func (d *delivery) forget() {
	d.releaseArea()
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if d.shared != nil {
		d.last, d.shared = d.shared.Delivered(), nil
	}
}

// noNumber logs a number without a place in the shared memory.
func (s *Server) noNumber(of string, id uint64) boundary.Result {
	host.Logf(s.log, host.Error, "the module asks for %s %d, which the shared memory does not have", of, id)
	return boundary.ResultEINVAL
}

func subscribe(s *Server, q *boundary.SubscribeRequest) boundary.Body {
	shared := s.ingest.Progress(q.ID)
	if shared == nil {
		return &boundary.SubscribeAnswer{Result: s.noNumber("delivery", q.ID)}
	}
	d := &delivery{shared: shared, areas: s.areas, predecessor: q.Member, positions: positions(q.Positions), joined: func(member string) {
		s.conn.Post(boundary.MemberKind, &boundary.MemberRequest{ID: q.ID, Member: member})
	}}
	err := s.engine.Subscribe(q.Name, q.Topics, q.ID, d)
	if err == nil {
		s.mtx.Lock()
		s.deliveries[q.ID] = d
		s.mtx.Unlock()
		s.pauseAll(q.ID, q.Pauses)
	}
	return &boundary.SubscribeAnswer{Result: result(err)}
}

func positions(list []boundary.Position) []consume.Position {
	var positions []consume.Position
	for _, p := range list {
		positions = append(positions, consume.Position{Topic: p.Topic, Partition: p.Partition, Next: p.Next})
	}
	return positions
}

func endMember(s *Server, q *boundary.EndMemberRequest) boundary.Body {
	s.engine.EndMember(q.Name, q.Member, positions(q.Positions))
	return nil
}

// pauseAll repeats the module's pauses at the previous engine.
func (s *Server) pauseAll(id uint64, pauses string) {
	for line := range strings.Lines(pauses) {
		if topics, on := strings.CutPrefix(strings.TrimSuffix(line, "\n"), "+"); on {
			_ = s.engine.Pause(id, topics, true)
		} else {
			_ = s.engine.Pause(id, strings.TrimPrefix(topics, "-"), false)
		}
	}
}

// delivery returns a subscription's delivery, or nil.
func (s *Server) delivery(id uint64) *delivery {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	return s.deliveries[id]
}

func deliveryOf(s *Server, q *boundary.NextRequest) *waiter {
	if d := s.delivery(q.ID); d != nil {
		return &d.waiter
	}
	return nil
}

func next(s *Server, q *boundary.NextRequest) boundary.Body {
	d := s.delivery(q.ID)
	if d == nil {
		return &boundary.NextAnswer{}
	}
	d.releaseArea() // the module has copied the area of the last answer
	for {
		batch, ok := s.engine.Next(q.ID)
		if !ok {
			return &boundary.NextAnswer{}
		}
		m := messages{batch}
		if batch.Len() > 1 || uint64(m.size()) <= q.Most {
			return d.place(m)
		}
		if outdated(q.Most, s.engine.BatchMax(q.ID)) {
			return &boundary.NextAnswer{Again: true}
		}
		for r := range batch.All() {
			s.engine.LeaveOut(q.ID, r.Topic, r.Partition, r.Offset, m.size())
		}
		d.skip()
	}
}

// outdated reports whether the module's limit of an answer is no longer the engine's: a reload changes the limit
// first in the engine and then in the module. 0 = the connection is missing for now.
func outdated(most uint64, limit int) bool {
	return limit == 0 || uint64(min(limit, boundary.MessagesMax)) > most
}

// skip counts the only message of a batch as delivered.
func (d *delivery) skip() {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if d.shared != nil {
		d.shared.Skip()
	}
}

func unsubscribe(s *Server, q *boundary.UnsubscribeRequest) boundary.Body {
	s.engine.Unsubscribe(q.ID)
	return nil
}

func subscriptionFree(s *Server, q *boundary.SubscriptionFreeRequest) boundary.Body {
	s.engine.FreeSubscription(q.ID)
	s.mtx.Lock()
	d := s.deliveries[q.ID]
	delete(s.deliveries, q.ID)
	s.mtx.Unlock()
	if d != nil {
		d.forget()
	}
	return nil
}

func commit(s *Server, q *boundary.CommitRequest) boundary.Body {
	return &boundary.CommitAnswer{Result: result(s.engine.Commit(q.ID, q.Current))}
}

func pause(s *Server, q *boundary.PauseRequest) boundary.Body {
	return &boundary.PauseAnswer{Result: result(s.engine.Pause(q.ID, q.Topics, q.On))}
}
