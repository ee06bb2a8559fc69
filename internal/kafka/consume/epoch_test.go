package consume

import (
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/test/kafkatest"
	"reskafka/test/wire"
)

// TestConsumer_EpochAnswers_GoesOn checks that a move of the leader neither skips nor repeats records, nor
// stops consumption, for any answer about the end of an epoch.
func TestConsumer_EpochAnswers_GoesOn(t *testing.T) {
	for name, answer := range map[string]func(*kmsg.OffsetForLeaderEpochResponseTopicPartition){
		"undefined": func(p *kmsg.OffsetForLeaderEpochResponseTopicPartition) { p.EndOffset, p.LeaderEpoch = -1, -1 },
		"always unknown": func(p *kmsg.OffsetForLeaderEpochResponseTopicPartition) {
			p.ErrorCode, p.EndOffset, p.LeaderEpoch = kerr.UnknownLeaderEpoch.Code, -1, -1
		},
		"always fenced": func(p *kmsg.OffsetForLeaderEpochResponseTopicPartition) {
			p.ErrorCode, p.EndOffset, p.LeaderEpoch = kerr.FencedLeaderEpoch.Code, -1, -1
		},
	} {
		for _, reset := range []string{"earliest", "latest", "none"} {
			if reset != "earliest" && name != "undefined" { // which take seconds
				continue
			}
			t.Run(name+", "+reset, func(t *testing.T) {
				t.Parallel()
				var asked atomic.Int32
				watched := wire.New()
				watched.Disturb(wire.Of("asterisk", wire.Change(func(r *kmsg.OffsetForLeaderEpochResponse) {
					asked.Add(1)
					for i := range r.Topics {
						for j := range r.Topics[i].Partitions {
							answer(&r.Topics[i].Partitions[j])
						}
					}
				})))
				cluster := kafkatest.Broker(t, quickGroup, kfake.NumBrokers(2), kfake.SeedTopics(1, "t"),
					kfake.ListenFn(func(network, address string) (net.Listener, error) {
						l, err := net.Listen(network, address)
						if err != nil {
							return nil, err
						}
						return watched.Listen(l), nil
					}))
				cl := kafkatest.Writer(t, cluster)
				write(t, cl, "t", 1, 0, 5)
				log := kafkatest.NewLines()
				conf := consuming(cluster.ListenAddrs()...)
				m := listen(t, conf, log, nil, "t") // commits, so only the answer can reset
				m.waitFor(5)
				m.Close()
				conf.AutoOffsetReset = reset
				m = listen(t, conf, log, nil, "t")
				write(t, cl, "t", 1, 5, 10)
				m.waitFor(5)
				for n := 10; n < 30; n += 10 {
					if err := cluster.MoveTopicPartition("t", 0, int32(n/10%2)); err != nil {
						t.Fatal(err)
					}
					write(t, cl, "t", 1, n, n+10)
					m.waitFor(n + 5)
				}
				if asked.Load() == 0 {
					t.Error("the client has not asked about an epoch: this test checks nothing")
				}
				for i, one := range m.waitFor(25) {
					if one.Offset != int64(i+5) {
						t.Fatalf("message %d has offset %d", i, one.Offset)
					}
				}
				for _, l := range log.Above(host.Notice) {
					if strings.Contains(l.Text, "lost") {
						t.Errorf("line: %s", l.Text)
					}
				}
			})
		}
	}
}
