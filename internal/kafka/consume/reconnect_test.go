package consume

import (
	"testing"
	"time"
)

// TestReconnectKeepsTheMembership checks that a consumer's wait for a reconnection is shorter than the
// heartbeat limit.
func TestReconnectKeepsTheMembership(t *testing.T) {
	c := consuming("127.0.0.1:1")
	c.ReconnectBackoff, c.ReconnectBackoffMax, c.SessionTimeout = 20*time.Second, time.Minute, 6*time.Second
	m := listen(t, c, nil, nil, "t")
	for failures := range 10 {
		if wait := m.net.Backoff(failures + 1); wait > c.SessionTimeout/4 {
			t.Errorf("%v after %d failures", wait, failures+1)
		}
	}
}
