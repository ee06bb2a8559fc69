package outbox

import (
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

func TestALifetimeOfItsOwn(t *testing.T) {
	ms := time.Millisecond
	tests := []struct {
		name      string
		lifetimes []time.Duration // of the records in order; 0 = the connection's 10s
		step      time.Duration
		want      string // of all others, behind a record inside the client
		early     string // just before step
	}{
		{"short behind usual", []time.Duration{0, 0, 500 * ms}, 500 * ms, "waiting=2 sending=1 expired=1", "waiting=3 sending=1"},
		{"short first", []time.Duration{500 * ms, 0}, 500 * ms, "waiting=1 sending=1 expired=1", "waiting=2 sending=1"},
		{"usual behind long", []time.Duration{time.Minute, 0}, 10 * time.Second, "waiting=1 sending=1 expired=1", "waiting=2 sending=1"},
		{"several", []time.Duration{800 * ms, 0, 400 * ms, 800 * ms}, 800 * ms, "waiting=1 sending=1 expired=3", "waiting=3 sending=1 expired=1"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			c := newClient("client", usual, fixed(answer{after: time.Hour}))
			bubble(t, c, func(t *testing.T, g *ledger) {
				g.putFor("t", 1, 0, time.Hour)
				for _, lifetime := range test.lifetimes {
					g.putFor("t", 1, 0, lifetime)
				}
				after(test.step - ms)
				g.want("t", test.early)
				after(ms + slack/2)
				g.want("t", test.want)
			})
		})
	}
}

// A returned record waits for the rest of its round until its deadline at most.
func TestExpiryWhileDraining(t *testing.T) {
	n := 0
	c := newClient("client", usual, func(r *record.Record) answer {
		n++
		switch {
		case n == 1:
			return answer{}
		case string(r.Key) == "back":
			return answer{after: time.Second, err: errRetry}
		}
		return answer{after: time.Hour}
	})
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.put("t", 1)
		g.outbox.Accept([]record.Record{
			g.record("t", "stuck", 0, 0, 0, false),
			g.record("t", "back", 0, 0, 0, false),
			g.record("t", "back", 0, 0, 3*time.Second, false),
		})
		after(time.Second)
		g.want("t", "waiting=2 sending=1 ack=1 retried=2")
		after(2*time.Second + slack/2)
		g.want("t", "waiting=1 sending=1 ack=1 retried=2 expired=1")
		after(7 * time.Second)
		g.want("t", "sending=1 ack=1 retried=2 expired=2")
	})
}

// The wall clock may be set while records are staged; their stamps are then far off in either direction.
func TestAStepOfTheWallClockExpiresNothing(t *testing.T) {
	for _, staged := range []time.Duration{time.Hour, -time.Hour, longestStaging + 1, 365 * 24 * time.Hour} {
		c := newClient("client", usual, fixed(answer{err: errRetry}))
		bubble(t, c, func(t *testing.T, g *ledger) {
			g.putFor("t", 1, staged, 0)
			after(usual.Timeout - 1)
			g.want("t", "waiting=1 retried=13")
			after(slack)
			g.want("t", "retried=13 expired=1")
		})
	}
	c := newClient("client", usual, fixed(answer{err: errRetry}))
	bubble(t, c, func(t *testing.T, g *ledger) {
		r := g.record("u", "k", 0, 0, 0, false)
		r.Accepted = time.Time{} // no stamp at all
		g.outbox.Accept([]record.Record{r})
		after(usual.Timeout - 1)
		g.want("u", "waiting=1 retried=13")
		after(slack)
	})
}

// Time spent in the stage counts.
func TestTheDeadlineCountsFromTheStamp(t *testing.T) {
	c := newClient("client", usual, fixed(answer{err: errRetry}))
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.putFor("t", 1, 3*time.Second, 0)
		after(usual.Timeout - 3*time.Second)
		g.want("t", "retried=10 expired=1")
	})
}

// A record staged for longer than the previous record has the previous record's deadline: the queue expires
// in order.
func TestTheQueueFallsDueInItsOrder(t *testing.T) {
	c := newClient("client", usual, firstly(1, answer{after: 6 * time.Second}))
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.put("t", 1)
		c.script = fixed(answer{err: errRetry})
		g.putFor("t", 1, 5*time.Second, 0)
		after(6 * time.Second)
		g.want("t", "waiting=1 ack=1 retried=1")
		after(4 * time.Second)
		g.want("t", "ack=1 retried=7 expired=1")
	})
}

// Records of a queue expire separately, each at its deadline.
func TestEachRecordHasItsOwnDeadline(t *testing.T) {
	c := newClient("client", usual, fixed(answer{err: errRetry}))
	bubble(t, c, func(t *testing.T, g *ledger) {
		for range 50 {
			g.put("t", 2)
			after(100 * time.Millisecond)
		}
		after(usual.Timeout - 5*time.Second)
		for i := range uint64(50) {
			c := g.outbox.Counters()[0]
			if want := 2 * (i + 1); c.Dropped[record.ReasonExpired] != want {
				t.Fatalf("%d expired, want %d", c.Dropped[record.ReasonExpired], want)
			}
			after(100 * time.Millisecond)
		}
	})
}

// TestExpiry_LifetimeBehindWholeRecords_IsInTime guards a test message behind records that are packed as a whole:
// a look at their deadlines needs their topic queue. Dead letters sent again are such records.
func TestExpiry_LifetimeBehindWholeRecords_IsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &countGate{}
		o := New(usual, newClient("client", usual, fixed(answer{hang: true})), gate, gate)
		o.Accept(append(make([]record.Record, 200), record.Record{Lifetime: time.Second}))
		after(time.Second + slack)
		if c := o.Counters()[0]; gate.panics != 0 || c.Waiting != 199 || c.Dropped[record.ReasonExpired] != 1 {
			t.Errorf("%d panics, %+v", gate.panics, c)
		}
		o.Close()
	})
}

// A blocked client must not delay deadlines.
func TestABlockedSendHoldsUpNoDeadline(t *testing.T) {
	c := newClient("client", usual, fixed(answer{}))
	c.sending = func() time.Duration { return time.Hour }
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.put("t", 1)
		g.put("t", 3)
		g.putFor("t", 1, 0, time.Second)
		g.put("u", 1)
		after(time.Second + slack)
		g.want("t", "waiting=3 sending=1 expired=1")
		after(usual.Timeout - time.Second)
		g.want("t", "sending=1 expired=4")
		g.want("u", "expired=1")
		if n := c.sent(); n != 1 {
			t.Errorf("%d Sends while one blocks", n)
		}
	})
}

// After the return of a blocked Send, work continues with a single feeder, each time.
func TestABlockedSendReturns(t *testing.T) {
	c := newClient("client", usual, fixed(answer{}))
	c.sending = func() time.Duration { return 3 * time.Second }
	bubble(t, c, func(t *testing.T, g *ledger) {
		for range 20 {
			g.put("t", 2)
			g.putFor("t", 1, 0, time.Second)
			after(7 * time.Second)
		}
		g.want("t", "ack=40 expired=20")
	})
}

// Every call out of the outbox may call back in, so no lock is held.
func TestNoLockIsHeldOverACall(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := &lockWatch{t: t}
		left := 2
		first := newClient("first", usual, func(*record.Record) answer {
			left--
			return answer{inline: true, err: map[bool]error{true: errRetry}[left >= 0]}
		})
		w.outbox = New(usual, lockClient{first, w}, w, w)
		report := func(*record.Record, error) { w.look("Report") }
		w.outbox.Accept([]record.Record{{Topic: "t", Report: report}})
		time.Sleep(time.Second)
		second := newClient("second", usual, fixed(answer{inline: true, err: errRefused}))
		w.outbox.Swap(lockClient{second, w}, usual, 0)
		w.outbox.Accept([]record.Record{{Topic: "t", Report: report}, {Topic: "t", Accepted: time.Now(), Report: report, Lifetime: 1}})
		time.Sleep(time.Second)
		w.outbox.Close()
		w.outbox.Accept([]record.Record{{Topic: "t", Report: report}})
		for _, call := range []string{"Send", "Permanent", "Close", "Release", "Dropped", "Report"} {
			if w.calls[call] == 0 {
				t.Errorf("%s was not called", call)
			}
		}
	})
}

// lockWatch checks the outbox's lock in every call. A single goroutine of the test runs at a time.
type lockWatch struct {
	t      *testing.T
	outbox *Outbox
	calls  map[string]int
}

func (w *lockWatch) look(call string) {
	if w.calls == nil {
		w.calls = map[string]int{}
	}
	w.calls[call]++
	if !w.outbox.mtx.TryLock() {
		w.t.Errorf("%s is called with the lock held", call)
		return
	}
	w.outbox.mtx.Unlock()
}

func (w *lockWatch) Release(*record.Record) { w.look("Release") }
func (w *lockWatch) Panicked(any)           {}
func (*lockWatch) Spooling(error)           {}

func (w *lockWatch) Dropped(string, string, int, error) { w.look("Dropped") }
func (w *lockWatch) Died(string, string, int, error)    { w.look("Died") }

type lockClient struct {
	*client
	watch *lockWatch
}

func (c lockClient) Send(records []*record.Record, deadline time.Time) {
	c.watch.look("Send")
	c.client.Send(records, deadline)
}

func (c lockClient) Permanent(err error) (string, bool) {
	c.watch.look("Permanent")
	return c.client.Permanent(err)
}

func (c lockClient) Close() {
	c.watch.look("Close")
	c.client.Close()
}
