package outbox

import (
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

func TestSwapWaitsForThePresentClient(t *testing.T) {
	old := newClient("old", usual, fixed(answer{after: time.Second}))
	bubble(t, old, func(t *testing.T, g *ledger) {
		g.put("t", 3)
		fresh := newClient("fresh", usual, fixed(answer{}))
		g.swap(fresh, 5*time.Second)
		after(999 * time.Millisecond)
		if fresh.sent() != 0 || old.sent() != 1 || old.closings() != 0 {
			t.Errorf("%d Sends to the next client, %d to the present one, closed %d times", fresh.sent(), old.sent(), old.closings())
		}
		after(time.Millisecond)
		g.want("t", "ack=3")
		if old.closings() != 1 || fresh.sent() == 0 {
			t.Errorf("the swap is not over once the client has answered")
		}
	})
}

func TestSwapOfAnIdleOutboxIsImmediate(t *testing.T) {
	old := newClient("old", usual, fixed(answer{}))
	bubble(t, old, func(t *testing.T, g *ledger) {
		g.swap(newClient("fresh", usual, fixed(answer{})), time.Hour)
		synctest.Wait()
		if old.closings() != 1 {
			t.Error("the idle client is not closed")
		}
	})
}

// Records left in a client after the patience go to the next client, in order.
func TestSwapRunsOutOfPatience(t *testing.T) {
	for _, blocked := range []bool{false, true} {
		old := newClient("old", usual, firstlyHang(1))
		bubble(t, old, func(t *testing.T, g *ledger) {
			g.put("t", 1)
			if blocked {
				old.sending = func() time.Duration { return time.Hour }
			}
			g.put("t", 5)
			g.want("t", "waiting=1 sending=4 ack=1")
			fresh := newClient("fresh", usual, fixed(answer{}))
			g.swap(fresh, 2*time.Second)
			after(2*time.Second - 1)
			g.want("t", "waiting=1 sending=4 ack=1")
			after(slack)
			g.want("t", "ack=6 retried=4")
			if old.closings() != 1 || old.sent() != 2 {
				t.Errorf("the client out of patience was closed %d times and sent to %d times", old.closings(), old.sent())
			}
		})
	}
}

// A client with all answers sent, still inside Send, also gets time.
func TestSwapWaitsForSend(t *testing.T) {
	old := newClient("old", usual, fixed(answer{inline: true}))
	old.linger = func() time.Duration { return time.Second }
	bubble(t, old, func(t *testing.T, g *ledger) {
		g.put("t", 1)
		fresh := newClient("fresh", usual, fixed(answer{}))
		g.swap(fresh, 5*time.Second)
		g.put("t", 1)
		after(time.Second - time.Millisecond)
		if old.closings() != 0 || fresh.sent() != 0 {
			t.Errorf("closed %d times inside Send, %d Sends to the next one", old.closings(), fresh.sent())
		}
		after(slack)
		g.want("t", "ack=2")
	})
}

// lateClient answers a moment after Close: its Send was about to begin at the Close. prompt: Send is the
// client's.
type lateClient struct {
	*client
	prompt bool
	judged int
}

func (c *lateClient) Send(records []*record.Record, deadline time.Time) {
	if c.prompt {
		c.client.Send(records, deadline)
		return
	}
	<-c.gone
	time.Sleep(time.Millisecond)
	for _, r := range records {
		c.done(r, errClosed)
	}
}

func (c *lateClient) Permanent(err error) (string, bool) {
	c.judged++
	return "", false
}

// Even then the answers arrive, and the old client judges them, before the next client takes over.
func TestASendThatOutlivesClose(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &countGate{}
		old := &lateClient{client: newClient("old", usual, nil)}
		next := &lateClient{client: newClient("next", usual, fixed(answer{hang: true})), prompt: true}
		o := New(usual, old, gate, gate)
		go o.Accept([]record.Record{{Topic: "t"}})
		synctest.Wait()
		o.Swap(next, usual, 0)
		after(slack)
		if old.judged != 1 || next.judged != 0 {
			t.Errorf("%d answers judged by the old client, %d by the next one, want 1 and 0", old.judged, next.judged)
		}
		o.Close()
		if gate.dropped != 1 || gate.records != 1 {
			t.Errorf("%d dropped, %d released when Close returned, want 1 of each", gate.dropped, gate.records)
		}
	})
}

// firstlyHang is a script that acknowledges the first n records and hangs on all later records.
func firstlyHang(n int) func(*record.Record) answer {
	return func(*record.Record) answer {
		n--
		return answer{hang: n < 0}
	}
}

// A reload every few seconds must not keep a dead client for ever.
func TestSwapsInARow(t *testing.T) {
	old := newClient("old", usual, fixed(answer{hang: true}))
	bubble(t, old, func(t *testing.T, g *ledger) {
		g.put("t", 2)
		var fresh []*client
		for range 3 {
			c := newClient("fresh", usual, fixed(answer{}))
			fresh = append(fresh, c)
			g.swap(c, 5*time.Second)
			after(2 * time.Second)
		}
		if fresh[0].closings() != 1 || fresh[1].closings() != 1 || fresh[2].closings() != 0 {
			t.Errorf("closed %d, %d, %d times, want all but the last once", fresh[0].closings(), fresh[1].closings(), fresh[2].closings())
		}
		if n := fresh[0].sent() + fresh[1].sent(); n != 0 {
			t.Errorf("%d Sends to clients that never took over", n)
		}
		g.want("t", "ack=2 retried=1")
	})
	// Twice without a moment between.
	old = newClient("old", usual, fixed(answer{}))
	bubble(t, old, func(t *testing.T, g *ledger) {
		g.swap(newClient("second", usual, fixed(answer{})), time.Second)
		g.swap(newClient("third", usual, fixed(answer{})), time.Second)
		synctest.Wait()
		g.mtx.Lock()
		g.current, g.next = g.clients[2], nil // the ledger cannot see which of the two the feeder met first
		g.mtx.Unlock()
		g.put("t", 1)
		g.want("t", "ack=1")
	})
}

// The new settings apply to records accepted under the old settings.
func TestSwapChangesTheSettings(t *testing.T) {
	old := newClient("old", usual, fixed(answer{err: errRetry}))
	bubble(t, old, func(t *testing.T, g *ledger) {
		e := g.putFor("t", 1, 0, 6*time.Second)[0]
		g.put("t", 9)
		after(2 * time.Second)
		short := Settings{Timeout: time.Second, WindowRecords: 2, Backoff: 300 * time.Millisecond, BackoffMax: 300 * time.Millisecond}
		next := newClient("short", short, fixed(answer{err: errRetry}))
		g.swap(next, 0)
		after(slack)
		c := g.outbox.Counters()[0]
		if c.Dropped[record.ReasonExpired] != 9 || c.Waiting != 1 || g.settled(e) {
			t.Errorf("%+v after the timeout became shorter, want 9 expired and the one with its own lifetime waiting", c)
		}
		after(time.Second)
		for _, gap := range next.gaps() {
			if gap != 300*time.Millisecond {
				t.Errorf("gap %v, want the new backoff of 300ms", gap)
			}
		}
		wide := usual
		wide.WindowRecords = 7
		last := newClient("wide", wide, fixed(answer{after: time.Second}))
		g.swap(last, 0)
		g.put("t", 20)
		after(time.Second)
		if n := g.inside("t"); n != 7 {
			t.Errorf("%d records inside the client, want the new window of 7", n)
		}
		g.want("t", "waiting=13 sending=7 ack=1 retried=9 expired=9")
	})
}

// A swap resets the backoff: the new client is tried at once, with one record.
func TestSwapTriesTheNewClientAtOnce(t *testing.T) {
	old := newClient("old", usual, fixed(answer{err: errRetry}))
	bubble(t, old, func(t *testing.T, g *ledger) {
		g.put("t", 5)
		after(4 * time.Second) // in the middle of a second's backoff
		fresh := newClient("fresh", usual, fixed(answer{after: time.Millisecond}))
		g.swap(fresh, time.Minute)
		synctest.Wait()
		if sends := fresh.sizes(); !slices.Equal(sends, []int{1}) {
			t.Errorf("Sends of %v records to the new client, want one of one", sends)
		}
	})
}

func TestDrain(t *testing.T) {
	c := newClient("client", usual, byTopic(map[string]answer{"t": {after: time.Second}, "slow": {after: 5 * time.Second}}))
	bubble(t, c, func(t *testing.T, g *ledger) {
		if !g.outbox.Drain(nil) {
			t.Error("Drain of an empty outbox has something left")
		}
		g.put("t", 2)
		cancel := make(chan struct{})
		time.AfterFunc(500*time.Millisecond, func() { close(cancel) })
		start := time.Now()
		if g.outbox.Drain(cancel) || time.Since(start) != 500*time.Millisecond {
			t.Errorf("a cancelled Drain did not say so, after %v", time.Since(start))
		}
		results := make(chan time.Duration, 2)
		for range 2 {
			go func() {
				if g.outbox.Drain(nil) {
					results <- time.Since(start)
				}
			}()
		}
		for range 2 {
			if took := <-results; took != 2*time.Second {
				t.Errorf("drained after %v, want 2s", took)
			}
		}
		g.put("t", 1) // and again
		if !g.outbox.Drain(nil) {
			t.Error("the second Drain has something left")
		}
		g.want("t", "ack=3")
		start = time.Now()
		g.put("slow", 1)
		g.put("t", 1)
		if !g.outbox.Drain(nil) || time.Since(start) != 5*time.Second {
			t.Errorf("drained after %v, want the 5s of the slowest", time.Since(start))
		}
	})
}

func TestCloseWhileSendBlocks(t *testing.T) {
	c := newClient("client", usual, fixed(answer{}))
	c.sending = func() time.Duration { return time.Hour }
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.put("t", 3)
		done := make(chan struct{})
		go func() { g.outbox.Drain(nil); close(done) }()
		g.end() // fails after more than a few ms
		<-done
		g.want("t", "stopped=3")
		g.finished = 0
	})
}

func TestCloseInTheMiddleOfASwap(t *testing.T) {
	c := newClient("client", usual, fixed(answer{hang: true}))
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.put("t", 3)
		next := newClient("next", usual, fixed(answer{}))
		g.swap(next, time.Hour)
		synctest.Wait()
		g.end()
		if next.sent() != 0 {
			t.Error("the next client was sent to")
		}
		g.want("t", "stopped=3")
	})
}

func TestAfterClose(t *testing.T) {
	c := newClient("client", usual, fixed(answer{}))
	bubble(t, c, func(t *testing.T, g *ledger) {
		g.end()
		e := g.put("t", 2)[1]
		g.want("t", "stopped=2")
		if e.reported != record.DroppedError(record.ReasonStopped) {
			t.Errorf("a record accepted after Close reported %v", e.reported)
		}
		late := newClient("late", usual, fixed(answer{}))
		g.swap(late, time.Hour)
		if late.closings() != 1 {
			t.Errorf("a client that came after Close was closed %d times", late.closings())
		}
		g.outbox.Close()
		if !g.outbox.Drain(nil) {
			t.Error("Drain after Close has something left")
		}
		if c.sent() != 0 {
			t.Error("sent after Close")
		}
	})
}
