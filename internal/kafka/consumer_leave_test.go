package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
)

// writes tells a test of every request that a client has written.
type writes chan int16

func (w writes) OnBrokerWrite(_ kgo.BrokerMetadata, key int16, _ int, _, _ time.Duration, err error) {
	if err == nil {
		w <- key
	}
}

func (w writes) waitFor(t *testing.T, key kmsg.Key) {
	t.Helper()
	for kmsg.Key(within(t, w, key.Name()+" on the wire")) != key {
	}
}

// TestLeavingDuringACommit holds that a periodic commit that leaving the group cuts short is no offset that was not
// committed.
func TestLeavingDuringACommit(t *testing.T) {
	cluster := fakeBroker(t, quickGroup, kfake.SeedTopics(1, "t"))
	write(t, writer(t, cluster), "t", 1, 0, 10)
	c := consuming(cluster.ListenAddrs()...)
	c.AutoCommitInterval = minCommitInterval
	release, _ := hang(t, cluster, kmsg.OffsetCommit)
	log, written := newLines(), make(writes, 1000)
	m := subscribe(t, c, log, []string{"t"}, func(tune *consumerTuning) {
		tune.closeWait = patience
		tune.extra = append(tune.extra, kgo.WithHooks(written))
	})
	m.run(nil)
	m.waitFor(10)
	written.waitFor(t, kmsg.OffsetCommit) // the periodic one, which the broker holds
	m.Stop()
	written.waitFor(t, kmsg.OffsetCommit) // the one of leaving: the periodic one was cut short
	release()
	within(t, m.over, "the end")
	if lines := log.above(host.Notice); len(lines) != 0 {
		t.Errorf("nothing went wrong, but: %v", lines)
	}
	if n := commits(cluster, "g", "t", 0); n != 10 {
		t.Errorf("committed: %d", n)
	}
}
