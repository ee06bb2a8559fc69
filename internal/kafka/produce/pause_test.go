package produce

import (
	"context"
	"math"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
	"reskafka/test/kafkatest"
)

// answerThrottled has the broker answer the next produce request with the longest throttle time.
func answerThrottled(cluster *kfake.Cluster) { answerThrottledFor(cluster, math.MaxInt32) }

func answerThrottledFor(cluster *kfake.Cluster, millis int32) {
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		asked := request.(*kmsg.ProduceRequest)
		answer := asked.ResponseKind().(*kmsg.ProduceResponse)
		answer.ThrottleMillis = millis
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = asked.Topics[0].Topic, asked.Topics[0].TopicID
		topic.Partitions = append(topic.Partitions, kmsg.NewProduceResponseTopicPartition())
		answer.Topics = append(answer.Topics, topic)
		return answer, nil, true
	})
}

// TestPause_ConnectionEnds_ProducerGoesOn verifies that a broker's pause of a minute ends with the
// connection, without a failure.
func TestPause_ConnectionEnds_ProducerGoesOn(t *testing.T) {
	t.Parallel()
	cluster, network := kafkatest.NewLossyBroker(t, kfake.SeedTopics(1, "t"))
	status := &client.Status{}
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, status)
	answerThrottled(cluster)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	o := kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 1, 2), time.Time{}, o.Add)
	if shown := status.Snapshot().Brokers[0].Throttled; time.Until(shown) <= 0 {
		t.Errorf("the pause is shown to last until %v", shown)
	}
	network.Cut()
	o.AllSent()
	if snap := status.Snapshot(); snap.Failures != 0 || snap.Retried != 0 {
		t.Errorf("the status is %+v", snap)
	}
	if shown := status.Snapshot().Brokers[0].Throttled; !shown.IsZero() {
		t.Errorf("a pause is shown after its connection: until %v", shown)
	}
}

// TestPause_Lasts_ProducerWaits verifies that no request goes out in a pause of a minute, too long for a busy
// machine's delays. After a short pause the producer continues.
func TestPause_Lasts_ProducerWaits(t *testing.T) {
	t.Run("a minute", func(t *testing.T) { waitsInPause(t, 60_000, true) })
	t.Run("short", func(t *testing.T) { waitsInPause(t, 50, false) })
}

func waitsInPause(t *testing.T, millis int32, waits bool) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	clock := newClock()
	p := clock.producer(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, nil)
	answerThrottledFor(cluster, millis)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	o := kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 1, 2), time.Time{}, o.Add)
	if !waits {
		clock.pass(time.Duration(millis) * time.Millisecond)
		o.AllSent()
		return
	}
	p.mtx.Lock()
	defer p.mtx.Unlock()
	for _, n := range p.nodes {
		due := n.resume.Sub(clock.now())
		if n.flights != 0 || n.paused == nil || due <= 0 || due > time.Duration(millis)*time.Millisecond {
			t.Errorf("%d requests are under way, the next is due in %v", n.flights, due)
		}
	}
}

// TestPause_OtherDeadlinePasses_ProducerStillLooks verifies that a deadline before the next look at the
// connection does not replace the look: the look would never come.
func TestPause_OtherDeadlinePasses_ProducerStillLooks(t *testing.T) {
	t.Parallel()
	cluster, network := kafkatest.NewLossyBroker(t, kfake.SeedTopics(1, "t", "late"))
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, nil)
	answerThrottled(cluster)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	waiting, late := kafkatest.ExpectOutcomes(t, 1), kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 1, 2), time.Time{}, waiting.Add)
	p.Send(kafkatest.Numbered("late", 0, 1), time.Now().Add(50*time.Millisecond), late.Add)
	for r, err := range late.Wait() {
		if err == nil {
			t.Fatalf("record %q was sent in the pause", r.Value)
		}
	}
	network.Cut()
	waiting.AllSent()
}

// TestPause_OtherConnection_ProducerSends verifies that a pause on a connection without produce requests does
// not stop records.
func TestPause_OtherConnection_ProducerSends(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	cluster.ControlKey(int16(kmsg.Heartbeat), func(request kmsg.Request) (kmsg.Response, error, bool) {
		answer := request.ResponseKind().(*kmsg.HeartbeatResponse)
		answer.ThrottleMillis = math.MaxInt32
		return answer, nil, true
	})
	request := kmsg.NewPtrHeartbeatRequest()
	request.Group = "g"
	if _, err := p.client.Broker(0).Request(t.Context(), request); err != nil {
		t.Fatal(err)
	}
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 1, 2)...)
}

// TestPause_ConnectionEnds_RequestsGoOn verifies the same for a request in the library, as in consumers and
// in the administration.
func TestPause_ConnectionEnds_RequestsGoOn(t *testing.T) {
	t.Parallel()
	cluster, network := kafkatest.NewLossyBroker(t, kfake.SeedTopics(1, "t"))
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, nil)
	cluster.ControlKey(int16(kmsg.Heartbeat), func(request kmsg.Request) (kmsg.Response, error, bool) {
		answer := request.ResponseKind().(*kmsg.HeartbeatResponse)
		answer.ThrottleMillis = math.MaxInt32
		return answer, nil, true
	})
	ctx, cancel := context.WithTimeout(t.Context(), kafkatest.Patience)
	defer cancel()
	ask := func(ctx context.Context) error {
		request := kmsg.NewPtrHeartbeatRequest()
		request.Group = "g"
		_, err := p.client.Broker(0).Request(ctx, request)
		return err
	}
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	if err := ask(ctx); err != nil {
		t.Fatal(err)
	}
	asked := make(chan error, 1)
	go func() { asked <- ask(ctx) }()
	network.Cut()
	if err := <-asked; err != nil {
		t.Error(err)
	}
}
