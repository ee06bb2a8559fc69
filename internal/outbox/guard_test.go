package outbox

import (
	"testing"
	"testing/synctest"
	"time"
)

// brokenClient panics in Send, as a defect of ours could.
type brokenClient struct{ *client }

func (c *brokenClient) Send([]*Record, time.Time, func(*Record, error)) {
	var nothing *client
	nothing.name = "x"
}

func TestAPanicOfTheFeederEndsTheOutboxOnly(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := &countGate{}
		broken := &brokenClient{newClient("broken", usual, nil)}
		o := New(usual, broken, gate, gate)
		o.Accept([]Record{{Topic: "t"}, {Topic: "t"}, {Topic: "u"}})
		synctest.Wait()
		if gate.panics != 1 {
			t.Errorf("the observer was told of %d panics, want 1", gate.panics)
		}
		o.Accept([]Record{{Topic: "t"}})
		if c := o.Counters(); c[0].Waiting != 0 || c[0].Dropped[ReasonStopped] == 0 {
			t.Errorf("records wait for nobody: %+v", c)
		}
		o.Close()
		if broken.closings() != 1 {
			t.Errorf("the client was closed %d times, want 1", broken.closings())
		}
	})
}
