package consume

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/test/kafkatest"
)

// overseen is a module with callbacks watched on the test's clock. The speed of the machine has no influence
// on callbacks and heartbeats.
type overseen struct {
	*module
	clock atomic.Int64 // ns since 1970
}

// watchOver subscribes with a max_poll_interval_ms of a second.
func watchOver(t *testing.T, cluster *kfake.Cluster, log host.Logger, adjust func(*config.Connection), topics ...string) *overseen {
	t.Helper()
	c := consuming(cluster.ListenAddrs()...)
	c.MaxPollInterval = time.Second
	if adjust != nil {
		adjust(c)
	}
	w := &overseen{}
	w.clock.Store(time.Now().UnixNano())
	w.module = subscribe(t, c, log, topics, func(tune *consumerTuning) {
		tune.now = func() time.Time { return time.Unix(0, w.clock.Load()) }
	})
	return w
}

// takes lets the current callback take the time long, from its start as known to the watchdog.
func (w *overseen) takes(long time.Duration) {
	eventually(w.t, "the watchdog has seen which callback is under way", func() bool {
		w.Consumer.mtx.Lock()
		defer w.Consumer.mtx.Unlock()
		return w.out == nil || uint64(w.seen) == w.Delivered()-w.base
	})
	w.clock.Add(int64(long))
}

// TestWatchdog checks that a callback beyond max_poll_interval_ms costs the membership, is logged once, and
// that the consumer rejoins after the return of the callback, without a skipped record.
func TestWatchdog(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "t", 1, 0, 10)
	l := newLedger()
	l.audit(cluster)
	log := kafkatest.NewLines()
	hold := make(chan struct{})
	m := watchOver(t, cluster, log, nil, "t")
	hung := false
	m.run(func(one Message) {
		if one.Offset == 3 && !hung {
			hung = true
			m.takes(time.Second)
			<-hold
		}
		l.end(one)
	})
	log.WaitFor(t, host.Warning, "connection my-kafka: the callback for topic t partition 0 offset 3 is still running after "+
		"max_poll_interval_ms (1000 ms): leaving group g; it is joined again when the callback returns")
	eventually(t, "the group is left", func() bool { return len(cluster.GroupInfo("g").Members) == 0 })
	if n := commits(cluster, "g", "t", 0); n != 3 {
		t.Errorf("committed %d, want 3", n)
	}
	// Another member takes over meanwhile, and leaves again.
	other := listen(t, consuming(cluster.ListenAddrs()...), nil, func(one Message) { l.end(one) }, "t")
	if got := other.waitFor(7); got[0].Offset != 3 {
		t.Errorf("the other began at %d", got[0].Offset)
	}
	other.Close()
	write(t, cl, "t", 1, 10, 12)
	close(hold)
	log.WaitFor(t, host.Notice, "connection my-kafka: the callback has returned, joining group g again")
	got := m.waitFor(6)
	if got[4].Offset != 10 || got[5].Offset != 11 {
		t.Errorf("went on with %s and %s", last(got[:5]), last(got[:6]))
	}
	if lines := log.Above(host.Warning); len(lines) != 1 {
		t.Errorf("lines: %v", lines)
	}
	l.check(t)
}

// TestWatchdogAlone checks that the message of the hanging callback comes again if no other member took the
// partition.
func TestWatchdogAlone(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t", "held.back"))
	write(t, kafkatest.Writer(t, cluster), "held.back", 1, 0, 10)
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 10)
	m := watchOver(t, cluster, nil, nil, "t", "held.back")
	m.Pause("held.back")
	hung := false
	m.run(func(one Message) {
		if one.Offset == 3 && !hung {
			hung = true
			m.takes(time.Second)
			eventually(t, "the group is left", func() bool { return len(cluster.GroupInfo("g").Members) == 0 })
		}
	})
	got := m.waitFor(11)
	if got[4].Offset != 3 {
		t.Errorf("went on with %s", last(got[:5]))
	}
	inOrder(t, append(got[:3:3], got[4:]...))
	m.Consumer.mtx.Lock()
	if n := len(m.pending); n != 0 {
		t.Errorf("%d records of a paused topic are kept, and would become ever more", n)
	}
	m.Consumer.mtx.Unlock()
	m.Resume()
	m.waitFor(21)
}

// TestWatchdogSpares checks that a batch of short callbacks may take longer than max_poll_interval_ms, also
// with a commit in each callback.
func TestWatchdogSpares(t *testing.T) {
	for name, commits := range map[string]bool{"automatic commits": false, "a commit in each callback": true} {
		t.Run(name, func(t *testing.T) {
			cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
			write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 5)
			log := kafkatest.NewLines()
			m := watchOver(t, cluster, log, func(c *config.Connection) { c.AutoCommit = !commits }, "t")
			m.run(func(Message) {
				if commits {
					if err := m.Commit(context.Background(), true); err != nil {
						t.Errorf("committing: %v", err)
					}
				}
				m.takes(900 * time.Millisecond)
			})
			inOrder(t, m.waitFor(5))
			if lines := log.Above(host.Notice); len(lines) != 0 {
				t.Errorf("lines: %v", lines)
			}
		})
	}
}

// TestCloseWhileHung closes a consumer after its removal from the group by the watchdog.
func TestCloseWhileHung(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 5)
	log := kafkatest.NewLines()
	hold := make(chan struct{})
	m := watchOver(t, cluster, log, nil, "t")
	m.run(func(Message) {
		m.takes(time.Second)
		<-hold
	})
	log.WaitFor(t, host.Warning, "is still running")
	m.Close()
	close(hold)
	within(t, m.over, "the end of the thread")
	if n := m.delivered.Load(); n != 1 {
		t.Errorf("%d callbacks", n)
	}
}
