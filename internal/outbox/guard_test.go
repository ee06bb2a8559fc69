package outbox

import (
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

// brokenClient panics in Send, as a defect of ours could.
type brokenClient struct{ *client }

func (c *brokenClient) Send([]*record.Record, time.Time, func(*record.Record, error)) {
	var nothing *client
	nothing.name = "x"
}

// tardyClient panics in Send after another goroutine has become the feeder.
type tardyClient struct{ *client }

func (c *tardyClient) Send([]*record.Record, time.Time, func(*record.Record, error)) {
	time.Sleep(2 * sendPatience)
	panic("late")
}

func TestAPanicOfOneWhoWasRelieved(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &countGate{}
		late := &tardyClient{newClient("late", usual, nil)}
		o := New(usual, late, gate, gate)
		o.Accept([]record.Record{{Topic: "t", Lifetime: 2 * time.Hour}, {Topic: "u"}})
		o.mtx.Lock()
		o.hurry()
		o.mtx.Unlock()
		after(time.Hour)
		if gate.panics != 1 || late.closings() != 1 {
			t.Errorf("%d panics, the client was closed %d times", gate.panics, late.closings())
		}
		o.Close()
		if !o.ended {
			t.Error("it has not ended")
		}
	})
}

func TestAPanicOfTheFeederEndsTheOutboxOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &countGate{}
		broken := &brokenClient{newClient("broken", usual, nil)}
		o := New(usual, broken, gate, gate)
		o.Accept([]record.Record{{Topic: "t"}, {Topic: "t"}, {Topic: "u"}})
		synctest.Wait()
		if gate.panics != 1 {
			t.Errorf("the observer was told of %d panics, want 1", gate.panics)
		}
		o.Accept([]record.Record{{Topic: "t"}})
		if c := o.Counters(); c[0].Waiting != 0 || c[0].Dropped[record.ReasonStopped] == 0 {
			t.Errorf("records wait for nobody: %+v", c)
		}
		o.Close()
		after(time.Hour)
		if broken.closings() != 1 {
			t.Errorf("the client was closed %d times, want 1", broken.closings())
		}
	})
}
