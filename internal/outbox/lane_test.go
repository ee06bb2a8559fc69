package outbox

import (
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

// A queue grown in an outage frees its consumed part as it shrinks, and stays in order.
func TestALongQueue(t *testing.T) {
	const n = 100_000
	l := &lane{}
	next := func(i int) *entry { return &entry{seq: uint64(i)} }
	for i := range n {
		l.queue = append(l.queue, next(i))
	}
	added := n
	for i := range n + n/2 {
		if got := l.peek().seq; got != uint64(i) {
			t.Fatalf("record %d at the head, want %d", got, i)
		}
		l.pop()
		if i%2 == 1 && added < n+n/2 {
			l.queue = append(l.queue, next(added))
			added++
		}
		if want := added - i - 1; l.waiting() != want {
			t.Fatalf("%d waiting, want %d", l.waiting(), want)
		}
		if l.head > 1024 && l.head > len(l.queue)/2+1 {
			t.Fatalf("%d of %d places are consumed and not given back", l.head, len(l.queue))
		}
	}
	if l.peek() != nil || l.waiting() != 0 {
		t.Error("the queue is not empty")
	}
	for i, r := range l.queue[:cap(l.queue)] {
		if r != nil {
			t.Fatalf("place %d of the empty queue still holds a record", i)
		}
	}
}

// The same through the outbox: a long outage, then a working client.
func TestAHundredThousandRecordsWaitOutAnOutage(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 100_000
		s := Settings{Timeout: time.Minute, WindowRecords: 1000, Backoff: 100 * time.Millisecond, BackoffMax: time.Second}
		c := &orderClient{t: t, until: time.Now().Add(30 * time.Second)}
		gate := &countGate{}
		o := New(s, c, gate, gate)
		for range n / 100 {
			records := make([]record.Record, 100)
			for i := range records {
				records[i] = record.Record{Topic: "t", Accepted: time.Now(), Charge: 1}
			}
			o.Accept(records)
			time.Sleep(10 * time.Millisecond)
		}
		if w := o.Counters()[0].Waiting; w != n {
			t.Errorf("%d waiting in the outage, want %d", w, n)
		}
		if !o.Drain(nil) || time.Since(c.until) > time.Second {
			t.Errorf("drained %v after the outage", time.Since(c.until))
		}
		o.Close()
		if c.next != n || gate.records != n || gate.charge != n {
			t.Errorf("%d delivered, %d released with the charge %d, want %d of each", c.next, gate.records, gate.charge, n)
		}
	})
}

// orderClient acknowledges at once, from inside Send, and looks at the order.
type orderClient struct {
	receiver
	t     *testing.T
	until time.Time // fails until then
	next  uint64
}

func (c *orderClient) Send(records []*record.Record, _ time.Time) {
	for _, r := range records {
		if time.Now().Before(c.until) {
			c.done(r, errRetry)
			continue
		}
		if seq := entryOf(r).seq; seq != c.next {
			c.t.Errorf("record %d delivered, want %d", seq, c.next)
		}
		c.next++
		c.done(r, nil)
	}
}

func (c *orderClient) Permanent(error) (string, bool) { return "", false }
func (c *orderClient) Close()                         {}

// countGate sums up releases. A single goroutine runs at a time.
type countGate struct{ records, charge, dropped, died, panics int64 }

func (g *countGate) Release(r *record.Record)                  { g.records++; g.charge += r.Charge }
func (g *countGate) Dropped(_, _ string, records int, _ error) { g.dropped += int64(records) }
func (g *countGate) Died(_, _ string, records int, _ error)    { g.died += int64(records) }
func (g *countGate) Panicked(any)                              { g.panics++ }
func (g *countGate) Spooling(error)                            {}

// instant is a client that acknowledges from inside Send and keeps nothing.
type instant struct{ receiver }

func (c *instant) Send(records []*record.Record, _ time.Time) { c.answered(records, nil) }
func (*instant) Permanent(error) (string, bool)               { return "", false }
func (*instant) Close()                                       {}

// pass takes batches of the given size through an outbox, all from the same memory as the stage's taker does, and waits
// for the outcomes.
type pass struct {
	outbox *Outbox
	size   int
	room   []record.Record
	done   chan struct{}
	left   int
}

func newPass(size int) *pass {
	p := &pass{size: size, done: make(chan struct{}, 1)}
	p.outbox = New(Settings{Timeout: time.Hour, WindowRecords: 10_000}, &instant{}, p, p)
	return p
}

// Release implements Gate; the client answers on a single goroutine.
func (p *pass) Release(*record.Record) {
	if p.left--; p.left == 0 {
		p.done <- struct{}{}
	}
}

func (p *pass) Panicked(any)                       {}
func (*pass) Spooling(error)                       {}
func (p *pass) Dropped(string, string, int, error) {}
func (p *pass) Died(string, string, int, error)    {}

func (p *pass) batch() {
	if p.room == nil {
		p.room = make([]record.Record, p.size)
	}
	records := p.room
	now := time.Now()
	for i := range records {
		records[i] = record.Record{Topic: "calls", Accepted: now, Charge: 100}
	}
	p.left = p.size
	p.outbox.Accept(records)
	<-p.done
}

// Allocations of a batch of 100 records: the slice for Send, and its function. Measured with Go 1.26: 2, also
// with the race detector.
func TestAllocations(t *testing.T) {
	const ceiling = 5
	p := newPass(100)
	defer p.outbox.Close()
	p.batch()
	n := testing.AllocsPerRun(200, p.batch)
	for range 9 { // the least of some rounds: other goroutines allocate too
		n = min(n, testing.AllocsPerRun(20, p.batch))
	}
	t.Logf("%v allocations", n)
	if n > ceiling {
		t.Errorf("%v allocations for a batch of 100 records, at most %d are allowed", n, ceiling)
	}
}

// BenchmarkRecord measures the path of a record from Accept to its outcome, by the size of incoming batches.
func BenchmarkRecord(b *testing.B) {
	for _, size := range []int{1, 10, 100, 1000} {
		b.Run(map[int]string{1: "1", 10: "10", 100: "100", 1000: "1000"}[size], func(b *testing.B) {
			p := newPass(size)
			defer p.outbox.Close()
			b.ReportAllocs()
			for i := 0; i < b.N; i += size {
				p.batch()
			}
		})
	}
}
