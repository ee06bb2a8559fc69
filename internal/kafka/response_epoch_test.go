package kafka

import (
	"math"
	"net"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/test/wire"
)

// TestConsumer_EpochAnswers_GoesOn checks that a move of the leader neither skips nor repeats records, nor stops consuming, however a
// broker answers where an epoch ends.
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
				cluster := fakeBroker(t, quickGroup, kfake.NumBrokers(2), kfake.SeedTopics(1, "t"),
					kfake.ListenFn(func(network, address string) (net.Listener, error) {
						l, err := net.Listen(network, address)
						if err != nil {
							return nil, err
						}
						return watched.Listen(l), nil
					}))
				cl := writer(t, cluster)
				write(t, cl, "t", 1, 0, 5)
				log := newLines()
				conf := consuming(cluster.ListenAddrs()...)
				m := listen(t, conf, log, nil, "t") // which commits, so that what resets is the answer alone
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
				for _, l := range log.above(host.Notice) {
					if strings.Contains(l.text, "lost") {
						t.Errorf("line: %s", l.text)
					}
				}
			})
		}
	}
}

// TestResponseCheck_EpochAnswers checks which answers about epochs are changed, however they are cut into reads.
func TestResponseCheck_EpochAnswers(t *testing.T) {
	encode := func(code int16, end int64) []byte {
		response := kmsg.NewPtrOffsetForLeaderEpochResponse()
		response.Version = 4
		topic, p := kmsg.NewOffsetForLeaderEpochResponseTopic(), kmsg.NewOffsetForLeaderEpochResponseTopicPartition()
		topic.Topic = "t"
		p.ErrorCode, p.EndOffset = code, end
		topic.Partitions = append(topic.Partitions, p)
		response.Topics = append(response.Topics, topic)
		return response.AppendTo(nil)
	}
	for _, size := range []int{1, 2, 3, 4096} {
		var c responseCheck
		l, _ := layoutOf(kmsg.OffsetForLeaderEpoch, 4)
		pass := func(code int16, end int64) (int16, int64) {
			body := encode(code, end)
			c.start(len(body), l, false)
			c.epochs.begin()
			for at := 0; at < len(body); at += size {
				if err := c.feed(body[at:min(at+size, len(body))]); err != nil {
					t.Fatal(err)
				}
			}
			got := kmsg.NewPtrOffsetForLeaderEpochResponse()
			got.Version = 4
			if err := got.ReadFrom(body); err != nil {
				t.Fatal(err)
			}
			p := got.Topics[0].Partitions[0]
			return p.ErrorCode, p.EndOffset
		}
		for _, end := range []int64{0, 1, 255, 1 << 40} {
			if code, got := pass(0, end); code != 0 || got != end {
				t.Errorf("end %d became %d, code %d", end, got, code)
			}
		}
		for _, end := range []int64{-1, -2, math.MinInt64} {
			if code, got := pass(0, end); code != 0 || got != 1<<62-1 {
				t.Errorf("end %d became %d, code %d", end, got, code)
			}
		}
		for i := range 10 {
			want := kerr.UnknownLeaderEpoch.Code
			if i >= maxEpochRefusals {
				want = 0
			}
			if code, _ := pass(kerr.UnknownLeaderEpoch.Code, -1); code != want {
				t.Errorf("refusal %d has code %d, want %d", i, code, want)
			}
		}
		if code, _ := pass(0, 5); code != 0 {
			t.Error("a good answer was changed")
		}
		if code, _ := pass(kerr.FencedLeaderEpoch.Code, -1); code != kerr.FencedLeaderEpoch.Code {
			t.Errorf("a refusal after a good answer has code %d", code)
		}
		if code, _ := pass(kerr.NotLeaderForPartition.Code, -1); code != kerr.NotLeaderForPartition.Code {
			t.Errorf("another refusal has code %d", code)
		}
	}
}
