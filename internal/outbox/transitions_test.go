package outbox

import (
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// usual are the settings of most tests here.
var usual = Settings{Timeout: 10 * time.Second, WindowRecords: 4, Backoff: 100 * time.Millisecond, BackoffMax: time.Second}

// fixed is a script that treats all records alike.
func fixed(a answer) func(*record.Record) answer { return func(*record.Record) answer { return a } }

// byTopic is a script that treats the listed topics differently and acknowledges all others.
func byTopic(topics map[string]answer) func(*record.Record) answer {
	return func(r *record.Record) answer { return topics[r.Topic] }
}

// bubble runs a test with a fake clock and an outbox over c, which is followed by a ledger and closed at the end.
func bubble(t *testing.T, c *client, f func(t *testing.T, g *ledger)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		c.gone = make(chan struct{}) // a channel of this bubble
		g := newLedger(t)
		g.open(c)
		f(t, g)
		synctest.Wait()
		g.check()
		g.end()
		g.check()
	})
}

// put accepts n records of one byte and one key, and waits until all goroutines block. The client's Send may
// still block then.
func (g *ledger) put(topic string, n int) []*line { return g.putFor(topic, n, 0, 0) }

func (g *ledger) putFor(topic string, n int, staged, lifetime time.Duration) []*line {
	from := len(g.entries)
	var records []record.Record
	for range n {
		records = append(records, g.record(topic, "k", 0, staged, lifetime, false))
	}
	go g.outbox.Accept(records)
	synctest.Wait()
	g.check()
	return g.entries[from:]
}

// A sendable record is in the client when Accept returns: a wake-up of the feeder would cost more than the
// send.
func TestAccept_RoomInTheWindow_Sends(t *testing.T) {
	c := newClient("client", usual, fixed(answer{}))
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.outbox.Accept([]record.Record{g.record("t", "k", 0, 0, 0, false)})
		if n := c.sent(); n != 1 {
			t.Errorf("%d Sends when Accept returned, want 1", n)
		}
	})
}

// inside is how many of a topic's records the client has.
func (g *ledger) inside(topic string) int {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	return g.topics[topic].inside
}

func (g *ledger) settled(e *line) bool {
	g.mtx.Lock()
	defer g.mtx.Unlock()
	return e.place == settled
}

// after lets time pass until nothing moves.
func after(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

// want says where a topic's records must be: "sending=1 waiting=2 ack=3 refused=4".
func (g *ledger) want(topic, want string) {
	g.t.Helper()
	g.check()
	got := ""
	add := func(name string, n uint64) {
		if n > 0 {
			got += fmt.Sprintf(" %s=%d", name, n)
		}
	}
	for _, c := range g.outbox.Counters() {
		if c.Topic != topic {
			continue
		}
		add("waiting", c.Waiting)
		add("sending", c.Sending)
		add("ack", c.Acknowledged)
		add("retried", c.Retried)
		add("refused", c.Dropped[reasonRefused])
		add("expired", c.Dropped[record.ReasonExpired])
		add("stopped", c.Dropped[record.ReasonStopped])
	}
	if got != " "+want {
		g.t.Errorf("%s:%s, want %s", topic, got, want)
	}
}

// TestTransitions walks every arrow of the picture in the package comment.
func TestTransitions(t *testing.T) {
	second := answer{after: time.Second}
	tests := []struct {
		name   string
		script func(*record.Record) answer
		walk   func(g *ledger, e *line)
		report error
	}{
		{"acknowledged", fixed(second), func(g *ledger, e *line) {
			g.want("t", "sending=1")
			after(time.Second)
			g.want("t", "ack=1")
		}, nil},
		{"refused", fixed(answer{after: time.Second, err: errRefused}), func(g *ledger, e *line) {
			g.want("t", "sending=1")
			after(time.Second)
			g.want("t", "refused=1")
		}, errRefused},
		{"out of time inside the client", fixed(answer{hang: true}), func(g *ledger, e *line) {
			after(usual.Timeout)
			g.want("t", "sending=1")
			after(time.Second)
			g.want("t", "expired=1")
		}, fmt.Errorf("%w (%w)", record.DroppedError(record.ReasonExpired), errRetry)},
		{"tried again and acknowledged", firstly(1, answer{err: errRetry}), func(g *ledger, e *line) {
			g.want("t", "waiting=1 retried=1")
			after(usual.Backoff)
			g.want("t", "ack=1 retried=1")
		}, nil},
		{"out of time while waiting", fixed(answer{err: errRetry}), func(g *ledger, e *line) {
			after(usual.Timeout - time.Millisecond)
			g.want("t", "waiting=1 retried=13")
			after(time.Millisecond)
			g.want("t", "retried=13 expired=1")
		}, record.DroppedError(record.ReasonExpired)},
		{"given up while waiting", fixed(answer{err: errRetry}), func(g *ledger, e *line) {
			g.want("t", "waiting=1 retried=1")
			g.end()
			g.want("t", "retried=1 stopped=1")
		}, record.DroppedError(record.ReasonStopped)},
		{"given up inside the client", fixed(answer{hang: true}), func(g *ledger, e *line) {
			g.want("t", "sending=1")
			g.end()
			g.want("t", "stopped=1")
		}, record.DroppedError(record.ReasonStopped)},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				g := newLedger(t)
				g.open(newClient("client", usual, test.script))
				e := g.put("t", 1)[0]
				test.walk(g, e)
				if e.reports != 1 || fmt.Sprint(e.reported) != fmt.Sprint(test.report) {
					t.Errorf("reported %d times, last %v, want %v", e.reports, e.reported, test.report)
				}
				if !g.closing {
					g.end()
				}
			})
		})
	}
}

// firstly is a script with the answer a for the first n records, and then acknowledgements.
func firstly(n int, a answer) func(*record.Record) answer {
	return func(*record.Record) answer {
		if n > 0 {
			n--
			return a
		}
		return answer{}
	}
}

// gaps are the times between a client's Sends.
func (c *client) gaps() []time.Duration {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	var gaps []time.Duration
	for i := 1; i < len(c.times); i++ {
		gaps = append(gaps, c.times[i].Sub(c.times[i-1]))
	}
	return gaps
}

// sizes are how many records each Send had.
func (c *client) sizes() []int {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	var sizes []int
	for _, records := range c.sends {
		sizes = append(sizes, len(records))
	}
	return sizes
}

func TestBackoffDoublesToItsCeilingAndStartsAnew(t *testing.T) {
	left := 6
	c := newClient("client", usual, func(*record.Record) answer {
		left--
		return answer{err: map[bool]error{true: errRetry}[left >= 0]}
	})
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.put("t", 1)
		after(5 * time.Second)
		ms := time.Millisecond
		if want := []time.Duration{100 * ms, 200 * ms, 400 * ms, 800 * ms, time.Second, time.Second}; !slices.Equal(c.gaps(), want) {
			t.Errorf("gaps %v, want %v", c.gaps(), want)
		}
		g.want("t", "ack=1 retried=6")
		left = 2
		n := c.sent()
		g.put("t", 1)
		after(time.Second)
		if got, want := c.gaps()[n:], []time.Duration{100 * ms, 200 * ms}; !slices.Equal(got, want) {
			t.Errorf("gaps after an acknowledgement %v, want %v", got, want)
		}
	})
}

func TestBackoffHasAFloor(t *testing.T) {
	c := newClient("client", Settings{Timeout: time.Second, WindowRecords: 1}, fixed(answer{err: errRetry}))
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.put("t", 1)
		after(time.Second)
		if n := c.sent(); n < 50 || n > 101 {
			t.Errorf("%d attempts in a second, want no more than one each 10ms", n)
		}
	})
}

func TestADeadTopicDelaysNoOther(t *testing.T) {
	for _, dead := range []answer{{hang: true}, {err: errRetry}, {after: time.Second, err: errRetry}} {
		c := newClient("client", usual, byTopic(map[string]answer{"dead": dead, "live": {after: time.Millisecond}}))
		bubble(t, c, func(t *testing.T, g *ledger) {
			g.put("dead", 1000)
			for range 300 {
				g.put("live", 1)
				after(2 * time.Millisecond)
				if n := g.inside("live"); n != 0 {
					t.Fatalf("a record of the live topic is not acknowledged after 2ms")
				}
			}
			g.want("live", "ack=300")
			if n := g.inside("dead"); n > 1 {
				t.Errorf("the dead topic has %d records inside the client", n)
			}
		})
	}
}

func TestWindowIsOneUntilProven(t *testing.T) {
	c := newClient("client", usual, fixed(answer{after: time.Second}))
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.put("t", 12)
		g.want("t", "waiting=11 sending=1")
		after(time.Second)
		g.want("t", "waiting=7 sending=4 ack=1")
		after(time.Second)
		// The window is refilled once half of it is free, before or after the last answer.
		if all := g.outbox.Counters()[0]; all.Acknowledged != 5 || all.Sending < 3 || all.Sending > 4 {
			t.Errorf("%+v", all)
		}
		g.check()
	})
}

// A round with failures and acknowledgements has not proven the topic reachable: a single record probes it.
func TestAMixedRoundIsFollowedByAProbe(t *testing.T) {
	bad := false
	c := newClient("client", usual, func(r *record.Record) answer {
		if bad && string(r.Key) == "bad" {
			return answer{err: errRetry, after: 5 * time.Millisecond} // when the whole round has been sent
		}
		return answer{after: 10 * time.Millisecond}
	})
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.put("t", 1)
		after(time.Second)
		bad = true
		var records []record.Record
		for i := range 8 {
			records = append(records, g.record("t", []string{"bad", "good"}[i%2], 0, 0, 0, false))
		}
		g.outbox.Accept(records)
		after(50 * time.Millisecond)
		g.want("t", "waiting=6 ack=3 retried=2")
		after(100 * time.Millisecond)
		if sizes := c.sizes(); sizes[len(sizes)-1] != 1 {
			t.Errorf("%d records sent after a mixed round, want one", sizes[len(sizes)-1])
		}
	})
}

func TestWindowBytes(t *testing.T) {
	s := usual
	s.WindowRecords, s.WindowBytes = 100, 50
	c := newClient("client", s, fixed(answer{after: time.Second}))
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.put("t", 1)
		after(time.Second)
		var records []record.Record
		for _, size := range []int{19, 19, 19, 500, 4, 4} {
			records = append(records, g.record("t", "k", size, 0, 0, false))
		}
		g.outbox.Accept(records)
		synctest.Wait()
		g.want("t", "waiting=4 sending=2 ack=1")
		after(time.Second)
		g.want("t", "waiting=3 sending=1 ack=3") // the third; the large record must be alone
		after(time.Second)
		g.want("t", "waiting=2 sending=1 ack=4")
		after(time.Second)
		g.want("t", "sending=2 ack=5")
		after(time.Second)
	})
}

// remote is a Transport with far brokers. It acknowledges the first record and no other.
type remote struct {
	silent
	mtx  sync.Mutex
	sent int
}

func (r *remote) Far() bool { return true }

func (r *remote) Send(records []*record.Record, _ time.Time) {
	r.mtx.Lock()
	first := r.sent == 0
	r.sent += len(records)
	r.mtx.Unlock()
	if first {
		r.answered(records[:1], nil)
		return
	}
	r.silent.Send(records, time.Time{})
}

// TestWindow_FarBroker_IsLarger verifies the larger window for a far broker: the usual window is less than the records
// of a round trip.
func TestWindow_FarBroker_IsLarger(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		client, gate := &remote{}, &countGate{}
		o := New(Settings{Timeout: time.Hour, WindowRecords: 10}, client, gate, kafkatest.Nobody{})
		o.Accept(kafkatest.Numbers("t", 0, 1))
		synctest.Wait()
		o.Accept(kafkatest.Numbers("t", 1, 100))
		synctest.Wait()
		client.mtx.Lock()
		if inside := client.sent - 1; inside != farWindows*10 {
			t.Errorf("%d records are with the client", inside)
		}
		client.mtx.Unlock()
		o.CloseWithin(0)
	})
}

// A batch of any size has one deadline: after the deadline of each record, by a second at most.
func TestDeadlineOfABatch(t *testing.T) {
	s := usual
	s.WindowRecords = 1000
	var up atomic.Bool
	c := newClient("client", s, func(*record.Record) answer {
		return answer{err: map[bool]error{false: errRetry}[up.Load()]}
	})
	bubble(t, c, func(t *testing.T, g *ledger) {
		for range 40 {
			g.put("t", 3)
			after(170 * time.Millisecond)
		}
		up.Store(true)
		after(2 * time.Second)
		g.want("t", "ack=120 retried=10")
		c.mtx.Lock()
		defer c.mtx.Unlock()
		for i, batch := range c.sends {
			for _, r := range batch {
				late := c.deadlines[i].Sub(r.Accepted.Add(s.Timeout))
				if late <= 0 || late > time.Second {
					t.Fatalf("deadline %v after the record's time", late)
				}
			}
		}
	})
}

// The client's Send may still be passing a batch on when an earlier record fails: the rest must not overtake
// it.
func TestNothingOvertakesARecordThatFailsDuringSend(t *testing.T) {
	fail := false
	c := newClient("client", usual, func(*record.Record) answer {
		if fail {
			return answer{after: 10 * time.Millisecond, err: errRetry}
		}
		return answer{}
	})
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.put("t", 1)
		fail = true
		g.put("t", 1)
		c.sending = func() time.Duration { fail = false; return 50 * time.Millisecond }
		g.put("t", 2)
		after(49 * time.Millisecond)
		c.sending = nil
		g.want("t", "waiting=1 sending=2 ack=1 retried=1")
		after(time.Second)
		g.want("t", "ack=4 retried=3")
	})
}
