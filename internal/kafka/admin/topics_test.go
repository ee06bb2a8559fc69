package admin

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
	"reskafka/test/kafkatest"
)

func TestEnsureTopic(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.DefaultNumPartitions(5), kfake.SeedTopics(2, "there"))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	for name, want := range map[string]struct{ partitions, replication, made int }{
		"default": {0, 0, 5}, "negative": {-1, -1, 5}, "three": {3, 1, 3}, "there": {7, 1, 2},
	} {
		for range 2 { // the topic exists the second time
			if err := EnsureTopic(t.Context(), c, name, want.partitions, want.replication, nil); err != nil {
				t.Errorf("%s: %v", name, err)
			}
		}
		topics, err := kadm.NewClient(kafkatest.Writer(t, cluster)).ListTopics(t.Context(), name)
		if err != nil || len(topics[name].Partitions) != want.made {
			t.Errorf("%s has %d partitions, want %d (%v)", name, len(topics[name].Partitions), want.made, err)
		}
	}
}

func TestEnsureTopicRefused(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "there"))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	if err := EnsureTopic(t.Context(), c, "", 1, 1, nil); err == nil || !strings.Contains(err.Error(), "needs a name") {
		t.Errorf("no name: %v", err)
	}
	// The broker's own words, which kfake does not have for everything.
	words := "Replication factor: 3 larger than available brokers: 1."
	code := kerr.InvalidReplicationFactor
	cluster.ControlKey(int16(kmsg.CreateTopics), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.CreateTopicsResponse)
		topic := kmsg.NewCreateTopicsResponseTopic()
		topic.Topic, topic.ErrorCode, topic.ErrorMessage = req.(*kmsg.CreateTopicsRequest).Topics[0].Topic, code.Code, &words
		resp.Topics = append(resp.Topics, topic)
		return resp, nil, true
	})
	want := "connection my-kafka: creating topic t: " + client.AnswerOf(code.Code, &words, client.ToCreate).Error()
	if err := EnsureTopic(t.Context(), c, "t", 1, 3, nil); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	code, words = kerr.InvalidTopicException, ""
	want = "connection my-kafka: creating topic t: " + client.Describe(code).String()
	if err := EnsureTopic(t.Context(), c, "t", 1, 3, nil); err == nil || err.Error() != want || !errors.Is(err, code) {
		t.Errorf("%v, want %s", err, want)
	}
	code, words = kerr.TopicAuthorizationFailed, "Authorization failed."
	if err := EnsureTopic(t.Context(), c, "t", 1, 1, nil); !errors.Is(err, kerr.TopicAuthorizationFailed) {
		t.Errorf("not authorized: %v", err)
	}
	if err := EnsureTopic(t.Context(), c, "there", 1, 1, nil); err != nil {
		t.Errorf("not authorized to create one that is there: %v", err)
	}
}

// TestEnsureTopicTriesAgain checks that a temporary error is retried.
func TestEnsureTopicTriesAgain(t *testing.T) {
	cluster := kafkatest.Broker(t)
	fault := cluster.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.CreateTopics}, Err: kerr.RequestTimedOut, Count: 3})
	if err := EnsureTopic(t.Context(), kafkatest.Connection(cluster.ListenAddrs()...), "t", 1, 1, nil); err != nil || fault.Hits() == 0 {
		t.Errorf("%v after %d time-outs", err, fault.Hits())
	}
}

// TestEnsureTopicIsBounded checks that the call ends in time, with the reason, for any silence of the broker.
func TestEnsureTopicIsBounded(t *testing.T) {
	silent, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { silent.Close() })
	for addr, reason := range map[string]string{silent.Addr().String(): "timed out", kafkatest.RefusedAddress(t): "connection refused"} {
		t.Run(reason, func(t *testing.T) {
			t.Parallel()
			c := kafkatest.Connection(addr)
			c.RequestTimeout = 100 * time.Millisecond
			c.SocketTimeout = time.Second
			begun := time.Now()
			err := EnsureTopic(t.Context(), c, "t", 1, 1, nil)
			if err == nil || !strings.Contains(err.Error(), reason) || !strings.Contains(err.Error(), addr) {
				t.Errorf("%v, want %s at %s", err, reason, addr)
			}
			if took := time.Since(begun); took > kafkatest.Patience || took < 2*time.Second {
				t.Errorf("gave up after %v: it tries until request_timeout_ms and 2 s are over", took)
			}
			ctx, cancel := context.WithCancel(t.Context())
			cancel()
			if err := EnsureTopic(ctx, c, "t", 1, 1, nil); err == nil {
				t.Error("no error although the context is over")
			}
		})
	}
}
