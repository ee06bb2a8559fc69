package consume

import (
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"reskafka/internal/host"
	"reskafka/test/kafkatest"
)

const comesBack = "connection my-kafka: topic t was deleted and created again, joining group g again"

// TestTopicComesBack checks that a deleted and recreated topic is consumed from its new beginning. The
// consumer learns of the new topic by a look at the topics, or only by the answer to a fetch, if the first
// look is too late or a pattern matches the topic. Some brokers accept offsets of the old topic for the new
// topic.
func TestTopicComesBack(t *testing.T) {
	for name, row := range map[string]struct {
		topic   string
		missing bool // the deletion is seen
		late    bool // the first look is
	}{
		"seen missing":          {"t", true, false},
		"late look":             {"t", false, true},
		"pattern, seen missing": {"^t$", true, false},
		"pattern for two":       {"^[tu]$", false, false},
	} {
		for version, most := range map[string]*kversion.Versions{"commits by id": kversion.Stable(), "by name": kversion.V4_1_0()} {
			t.Run(name+", "+version, func(t *testing.T) { comeBack(t, row.topic, row.missing, row.late, most) })
		}
	}
}

func comeBack(t *testing.T, topic string, missing, late bool, most *kversion.Versions) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t", "u"), kfake.MaxVersions(most))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "t", 1, 0, 5)
	look := make(chan struct{})
	open := sync.OnceFunc(func() { close(look) })
	t.Cleanup(open)
	if !late {
		open()
	}
	conf := consuming(cluster.ListenAddrs()...)
	conf.AutoCommitInterval = time.Hour // no commit in between: a client may not know of the new topic yet
	log := kafkatest.NewLines()
	m := subscribe(t, conf, log, []string{topic}, func(tune *consumerTuning) {
		tune.known = 50 * time.Millisecond
		tune.onLook = func() { <-look }
		if late { // the client must not see the new topic before its commit
			tune.extra = []kgo.Opt{kgo.MetadataMinAge(time.Minute), kgo.MetadataMaxAge(time.Hour)}
		}
	})
	m.run(nil)
	m.waitFor(5)
	admin := kadm.NewClient(cl)
	if _, err := admin.DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	if missing {
		log.WaitFor(t, host.Warning, "topic t, which group g subscribes to, does not exist")
	}
	if _, err := admin.CreateTopic(t.Context(), 1, 1, nil, "t"); err != nil {
		t.Fatal(err)
	}
	write(t, kafkatest.Writer(t, cluster), "t", 1, 100, 108) // more than before: the old offset exists in the new topic
	open()
	got := m.wait(func(got []Message) bool { return len(got) == 13 })
	if string(got[5].Value) != "100" || string(got[12].Value) != "107" {
		t.Errorf("got %s to %s", got[5].Value, got[12].Value)
	}
	log.WaitFor(t, host.Notice, comesBack)
}

// TestTopicStaysAway checks that a deleted topic is not fetched while it does not exist, because brokers
// refuse such fetches at once.
func TestTopicStaysAway(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "t", 1, 0, 5)
	var fetches atomic.Int32
	cluster.ControlKey(int16(kmsg.Fetch), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		fetches.Add(1)
		return nil, nil, false
	})
	looks := make(chan struct{}, 10000)
	log := kafkatest.NewLines()
	m := subscribe(t, consuming(cluster.ListenAddrs()...), log, []string{"^t$"}, func(tune *consumerTuning) {
		tune.known = 50 * time.Millisecond
		tune.onLook = func() { looks <- struct{}{} }
	})
	m.run(nil)
	m.waitFor(5)
	if _, err := kadm.NewClient(cl).DeleteTopic(t.Context(), "t"); err != nil {
		t.Fatal(err)
	}
	log.WaitFor(t, host.Warning, "topic t, which group g subscribes to, does not exist")
	for range len(looks) {
		<-looks
	}
	before := fetches.Load()
	for range 6 {
		within(t, looks, "a look for topics")
	}
	if n := fetches.Load() - before; n > 2 { // fetches in flight
		t.Errorf("%d fetches of a topic that does not exist", n)
	}
}

// TestTopicNotKnownEverywhere checks a leader that does not know its topic yet: the membership survives, a
// lasting failure is logged, and the topic is consumed once the leader knows it.
func TestTopicNotKnownEverywhere(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 5)
	var heard atomic.Bool
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		if heard.Load() {
			return nil, nil, false
		}
		return notKnown(req.(*kmsg.FetchRequest)), nil, true
	})
	log := kafkatest.NewLines()
	m := listen(t, consuming(cluster.ListenAddrs()...), log, nil, "t")
	log.WaitFor(t, host.Warning, "connection my-kafka: topic t partition 0: ")
	heard.Store(true)
	inOrder(t, m.waitFor(5))
	if n := len(m.assigned); n != 1 {
		t.Errorf("%d assignments, want 1", n)
	}
	eventually(t, "nothing is in doubt", func() bool { // after the refusal of a fetch in flight
		m.Consumer.mtx.Lock()
		defer m.Consumer.mtx.Unlock()
		return len(m.session.stale) == 0
	})
	if lines := log.Above(host.Notice); slices.ContainsFunc(lines, func(l kafkatest.Line) bool { return l.Text == comesBack }) {
		t.Errorf("lines: %v", lines)
	}
}

// TestLookTellsNothing checks that the next look for a topic in doubt follows soon after a look without an
// answer: the topic is not fetched meanwhile.
func TestLookTellsNothing(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 5)
	var refused, looks, seeing atomic.Int32
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		switch n := refused.Add(1); {
		case n > 6:
			return nil, nil, false
		case n == 6: // the client hides earlier refusals
			seeing.Store(looks.Load() + 2)
		}
		return notKnown(req.(*kmsg.FetchRequest)), nil, true
	})
	cluster.Fault(kfake.Fault{
		Keys: []kmsg.Key{kmsg.Metadata}, Topic: "t", Err: kerr.LeaderNotAvailable, Count: -1,
		When: func(kmsg.Request) bool { return looks.Load() < seeing.Load() },
	})
	m := subscribe(t, consuming(cluster.ListenAddrs()...), nil, []string{"t"}, func(tune *consumerTuning) {
		tune.onLook = func() { looks.Add(1) }
		tune.known = time.Hour // not by the periodic look
	})
	m.run(nil)
	inOrder(t, m.waitFor(5))
}

// notKnown returns the answer of a leader without any topic of the request.
func notKnown(req *kmsg.FetchRequest) *kmsg.FetchResponse {
	resp := req.ResponseKind().(*kmsg.FetchResponse)
	for _, topic := range req.Topics {
		one := kmsg.NewFetchResponseTopic()
		one.Topic, one.TopicID = topic.Topic, topic.TopicID
		for _, partition := range topic.Partitions {
			p := kmsg.NewFetchResponseTopicPartition()
			p.Partition, p.ErrorCode = partition.Partition, kerr.UnknownTopicID.Code
			one.Partitions = append(one.Partitions, p)
		}
		resp.Topics = append(resp.Topics, one)
	}
	return resp
}
