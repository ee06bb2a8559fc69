package outbox

import (
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

// brokenClient panics in Send, as a defect of ours could.
type brokenClient struct{ *client }

func (c *brokenClient) Send([]*record.Record, time.Time) {
	var nothing *client
	nothing.name = "x"
}

// tardyClient panics in the second Send, after a retry.
type tardyClient struct {
	*client
	sends int
}

func (c *tardyClient) Send(records []*record.Record, _ time.Time) {
	if c.sends++; c.sends > 1 {
		panic("late")
	}
	for _, r := range records {
		c.done(r, errRetry)
	}
}

// TestSend_PanicsInTheFeeder_EndsTheOutbox guards the account after a panic in a Send of the feeder itself: the
// first Send runs in Accept, the retry in the feeder.
func TestSend_PanicsInTheFeeder_EndsTheOutbox(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &countGate{}
		late := &tardyClient{client: newClient("late", usual, nil)}
		o := New(usual, late, gate, gate)
		o.Accept([]record.Record{{Topic: "t", Lifetime: 2 * time.Hour, Accepted: time.Now()}})
		after(time.Hour)
		if late.sends != 2 || gate.panics != 1 || late.closings() != 1 {
			t.Errorf("%d sends, %d panics, the client was closed %d times", late.sends, gate.panics, late.closings())
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
