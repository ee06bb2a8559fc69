package serve

import (
	"sync"

	"reskafka/internal/boundary"
	"reskafka/internal/host"
	"reskafka/internal/ingest"
	"reskafka/internal/kafka/consume"
)

// delivery is what a subscription's consumer reads of the thread that calls back. The shared memory is another subscription's
// as soon as this one is forgotten, and the consumer may read it for a while longer.
type delivery struct {
	mtx    sync.Mutex
	shared *ingest.Progress // nil = forgotten
	last   uint64           // delivered when it was forgotten

	predecessor string // the member that a killed engine was, until it is asked for
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
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if d.shared != nil {
		d.last, d.shared = d.shared.Delivered(), nil
	}
}

// noNumber logs a number that the shared memory has no place for.
func (s *Server) noNumber(of string, id uint64) boundary.Result {
	host.Logf(s.log, host.Error, "the module asks for %s %d, which the shared memory does not have", of, id)
	return boundary.ResultEINVAL
}

func consumerCheck(s *Server, q *boundary.ConsumerCheckRequest) boundary.Body {
	return &boundary.ConsumerCheckAnswer{Result: result(s.engine.CheckConsumer(q.Name))}
}

func subscribe(s *Server, q *boundary.SubscribeRequest) boundary.Body {
	shared := s.ingest.Progress(q.ID)
	if shared == nil {
		return &boundary.SubscribeAnswer{Result: s.noNumber("delivery", q.ID)}
	}
	d := &delivery{shared: shared, predecessor: q.Member, joined: func(member string) {
		s.conn.Post(boundary.MemberKind, &boundary.MemberRequest{ID: q.ID, Member: member})
	}}
	err := s.engine.Subscribe(q.Name, q.Topics, q.ID, d)
	if err == nil {
		s.mtx.Lock()
		s.deliveries[q.ID] = d
		s.mtx.Unlock()
	}
	return &boundary.SubscribeAnswer{Result: result(err)}
}

func next(s *Server, q *boundary.NextRequest) boundary.Body {
	batch, ok := s.engine.Next(q.ID)
	if !ok {
		return &boundary.NextAnswer{}
	}
	return messages{batch}
}

// messages is boundary.NextAnswer, encoded straight from the client's records.
type messages struct{ batch *consume.Batch }

// Put implements boundary.Body.
func (m messages) Put(w *boundary.Writer) {
	count := m.batch.Len()
	headers, _, bytes := m.batch.Size()
	w.Grow(bytes + count*messageFixed + headers*headerFixed)
	w.Count(count)
	for r := range m.batch.All() {
		w.Text(r.Topic)
		w.Number(uint64(int64(r.Partition)))
		w.Number(uint64(r.Offset))
		w.Number(uint64(r.UnixMilli()))
		w.Bytes(r.Key)
		w.Bytes(r.Value)
		w.Count(len(r.Headers))
		for _, h := range r.Headers {
			w.Text(h.Name)
			w.Bytes(h.Value)
		}
	}
}

// What a message and a header have beside their bytes, the name of a topic included, roughly.
const (
	messageFixed = 64 + 3*8 + 4*5
	headerFixed  = 2 * 5
)

// Get implements boundary.Body; nobody receives one.
func (m messages) Get(*boundary.Reader) {}

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
