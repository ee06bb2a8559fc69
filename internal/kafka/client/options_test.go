package client

import (
	"math"
	"net"
	"testing"
	"time"

	"reskafka/internal/config"
	"reskafka/test/kafkatest"
)

func TestBackoff(t *testing.T) {
	low, high := func() float64 { return 0 }, func() float64 { return 0.999999 }
	const ms = time.Millisecond
	for _, test := range []struct {
		base, ceiling time.Duration
		failures      int
		least, most   time.Duration
	}{
		{100 * ms, 10000 * ms, 0, 75 * ms, 150 * ms},
		{100 * ms, 10000 * ms, 1, 75 * ms, 150 * ms},
		{100 * ms, 10000 * ms, 2, 150 * ms, 300 * ms},
		{100 * ms, 10000 * ms, 4, 600 * ms, 1200 * ms},
		{100 * ms, 10000 * ms, 8, 7500 * ms, 10000 * ms},
		{100 * ms, 10000 * ms, 1 << 30, 7500 * ms, 10000 * ms},
		{100 * ms, 100 * ms, 5, 75 * ms, 100 * ms},
		{0, 0, 1, 7500 * time.Microsecond, 10 * ms}, // kgo would spin
		{math.MaxInt64 / 4, math.MaxInt64 / 3, 9, math.MaxInt64 / 4, math.MaxInt64 / 3},
	} {
		least, most := Backoff(test.base, test.ceiling, low)(test.failures), Backoff(test.base, test.ceiling, high)(test.failures)
		if least < test.least-ms || most > test.most || most < test.most-ms {
			t.Errorf("%+v: %v to %v", test, least, most)
		}
	}
}

// TestReadDeadline checks that a deadline moves only forward to an earlier time, and can be removed.
func TestReadDeadline(t *testing.T) {
	inner := &recordingConn{}
	conn := &Conn{Conn: inner, silence: time.Minute}
	soon := time.Now().Add(time.Second)
	conn.SetReadDeadline(soon)
	conn.SetReadDeadline(time.Time{})
	before := time.Now()
	conn.SetReadDeadline(before.Add(time.Hour))
	if len(inner.set) != 3 || !inner.set[0].Equal(soon) || !inner.set[1].IsZero() {
		t.Fatalf("deadlines %v", inner.set)
	}
	if at := inner.set[2].Sub(before); at < time.Minute || at > time.Minute+kafkatest.Patience {
		t.Errorf("an hour became %v", at)
	}
}

type recordingConn struct {
	net.Conn
	set []time.Time
}

func (c *recordingConn) SetReadDeadline(t time.Time) error {
	c.set = append(c.set, t)
	return nil
}

// TestBatchBudget_LargeMessages_DoesNotOverflow guards consumers of large messages on 32 bits: eight times
// message_max_bytes was more than an int holds, so the budget fell to its minimum.
func TestBatchBudget_LargeMessages_DoesNotOverflow(t *testing.T) {
	for messageMaxBytes, least := range map[int]int{1000: 48 << 20, 1000000: 48 << 20, 10000000: 80000000, 300000000: 1 << 29, 1000000000: 1 << 29} {
		if budget := BatchBudget(&config.Connection{MessageMaxBytes: messageMaxBytes}); budget < least {
			t.Errorf("message_max_bytes = %d: a budget of %d bytes, want at least %d", messageMaxBytes, budget, least)
		}
	}
}
