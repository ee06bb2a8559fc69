package outbox

import (
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

// noRight is a refusal that a later attempt may not get.
type noRight struct{}

func (noRight) Error() string   { return "no right to write" }
func (noRight) Refused() string { return "not authorized" }

// refusals is an observer that stores its calls.
type refusals struct {
	mtx   sync.Mutex
	lines []string
}

func (h *refusals) Release(*record.Record)           {}
func (h *refusals) Panicked(any)                     {}
func (h *refusals) Died(_, _ string, _ int, _ error) {}
func (h *refusals) Spooling(error)                   {}
func (h *refusals) Dropped(topic, reason string, records int, err error) {
	h.mtx.Lock()
	defer h.mtx.Unlock()
	h.lines = append(h.lines, fmt.Sprint(topic, " ", reason, " ", records, " ", err))
}

// TestOutbox_Refusal_EndsOwnLifetimesOnly checks that a refused topic keeps records until their deadline,
// reported with the broker's reason. A record with a Lifetime ends with the refusal.
func TestOutbox_Refusal_EndsOwnLifetimesOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var refuse atomic.Bool
		refuse.Store(true)
		c := newClient("client", usual, func(*record.Record) answer {
			if refuse.Load() {
				return answer{after: time.Millisecond, err: noRight{}}
			}
			return answer{after: time.Millisecond}
		})
		h := &refusals{}
		o := New(usual, c, h, h)
		defer o.Close()
		report := errors.New("none")
		o.Accept([]record.Record{{Topic: "t", Accepted: time.Now(), Lifetime: usual.Timeout / 2, Report: func(_ *record.Record, err error) { report = err }}})
		time.Sleep(5 * time.Millisecond)
		synctest.Wait()
		if !errors.Is(report, noRight{}) || !slices.Equal(h.lines, []string{"t not authorized 1 no right to write"}) {
			t.Errorf("the test message ended with %v: %q", report, h.lines)
		}
		for range 5 {
			o.Accept([]record.Record{{Topic: "t", Accepted: time.Now()}})
		}
		time.Sleep(usual.Timeout / 2)
		synctest.Wait()
		if n := o.Counters()[0]; n.Waiting+n.Sending != 5 {
			t.Errorf("account %+v", n)
		}
		time.Sleep(usual.Timeout)
		synctest.Wait()
		if late := h.lines[1:]; !slices.Equal(late, []string{"t message timeout 5 no right to write"}) {
			t.Errorf("%q", late)
		}
		o.Accept([]record.Record{{Topic: "t", Accepted: time.Now()}})
		refuse.Store(false)
		time.Sleep(usual.BackoffMax + time.Second)
		synctest.Wait()
		if n := o.Counters()[0]; n.Acknowledged != 1 {
			t.Errorf("account %+v", n)
		}
	})
}

// TestOutbox_RefusedWithoutBackoff_IsTriedOnceASecond guards brokers against a permanently refused topic on a
// connection with reconnect_backoff_max_ms = 0: they got a hundred requests a second.
func TestOutbox_RefusedWithoutBackoff_IsTriedOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := usual
		s.Timeout, s.Backoff, s.BackoffMax = time.Hour, 0, 0
		var tries atomic.Int32
		c := newClient("client", s, func(*record.Record) answer {
			tries.Add(1)
			return answer{after: time.Millisecond, err: noRight{}}
		})
		h := &refusals{}
		o := New(s, c, h, h)
		defer o.Close()
		o.Accept([]record.Record{{Topic: "t", Accepted: time.Now()}})
		time.Sleep(time.Minute)
		synctest.Wait()
		if n := tries.Load(); n < 50 || n > 70 {
			t.Errorf("%d attempts in a minute", n)
		}
	})
}
