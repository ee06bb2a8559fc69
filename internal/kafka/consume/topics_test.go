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

// TestTopicComesBack holds that a topic that is deleted and created again is consumed from its new beginning, whether that is
// seen by looks at the topics, or only by what a fetch is answered because the first look comes too late or the topic is one
// that a pattern matches; also where a broker takes offsets of the old topic for the new one.
func TestTopicComesBack(t *testing.T) {
	for name, row := range map[string]struct {
		topic   string
		missing bool // it is seen to be
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
	conf.AutoCommitInterval = time.Hour // or one may come between, which no client that has not seen the new topic can know
	log := kafkatest.NewLines()
	m := subscribe(t, conf, log, []string{topic}, func(tune *consumerTuning) {
		tune.known = 50 * time.Millisecond
		tune.onLook = func() { <-look }
		if late { // nor is the client to see for itself which topic it commits to
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
	write(t, kafkatest.Writer(t, cluster), "t", 1, 100, 108) // more than there were: the old offset is one of the new topic
	open()
	got := m.wait(func(got []Message) bool { return len(got) == 13 })
	if string(got[5].Value) != "100" || string(got[12].Value) != "107" {
		t.Errorf("got %s to %s", got[5].Value, got[12].Value)
	}
	log.WaitFor(t, host.Notice, comesBack)
}

// TestTopicStaysAway holds that a topic that was deleted is not fetched while it does not exist, which brokers refuse at once.
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
	if n := fetches.Load() - before; n > 2 { // that were under way
		t.Errorf("%d fetches of a topic that does not exist", n)
	}
}

// TestTopicNotKnownEverywhere holds that a leader that has not heard of its topic yet costs no membership, that it is said
// when that lasts, and that the topic is consumed once the leader has.
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
	eventually(t, "nothing is in doubt", func() bool { // a refusal that was under way comes after
		m.Consumer.mtx.Lock()
		defer m.Consumer.mtx.Unlock()
		return len(m.session.stale) == 0
	})
	if lines := log.Above(host.Notice); slices.ContainsFunc(lines, func(l kafkatest.Line) bool { return l.Text == comesBack }) {
		t.Errorf("lines: %v", lines)
	}
}

// TestLookTellsNothing holds that a topic in doubt is looked for again soon when the first look tells nothing: it is not fetched
// meanwhile.
func TestLookTellsNothing(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 5)
	var refused, looks, seeing atomic.Int32
	cluster.ControlKey(int16(kmsg.Fetch), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		switch n := refused.Add(1); {
		case n > 6:
			return nil, nil, false
		case n == 6: // the client keeps those before to itself
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
		tune.known = time.Hour // not by a look that is due anyway
	})
	m.run(nil)
	inOrder(t, m.waitFor(5))
}

// notKnown is the answer of a leader that knows no topic of the request.
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
