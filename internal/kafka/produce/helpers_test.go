package produce

import (
	"sync/atomic"
	"testing"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// open starts a producer, closed at the test's end.
func open(t *testing.T, c *config.Connection, log host.Logger, status *client.Status, adjust ...func(*tuning)) *sender {
	t.Helper()
	tune := defaultTuning()
	for _, fn := range adjust {
		fn(&tune)
	}
	p, err := newProducer(c, log, status, tune)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return sending(p)
}

// sender is a producer with a receiver for each record.
type sender struct {
	*Producer
	over *kafkatest.Sender
}

func sending(p *Producer) *sender { return &sender{p, kafkatest.Over(p)} }

func (s *sender) Send(records []*record.Record, deadline time.Time, done func(*record.Record, error)) {
	s.over.Send(records, deadline, done)
}

// openEarly is open with a clock that `later` advances: deadlines pass when the test decides.
func openEarly(t *testing.T, c *config.Connection, log host.Logger, status *client.Status) (p *sender, later func(by time.Duration)) {
	t.Helper()
	var ahead atomic.Int64
	p = open(t, c, log, status, func(tune *tuning) {
		tune.now = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	})
	return p, func(by time.Duration) {
		ahead.Add(int64(by))
		p.tick()
	}
}
