package consume

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/test/kafkatest"
)

// quickGroup lets sessions of a group be short.
var quickGroup = kfake.GroupMinSessionTimeout(100 * time.Millisecond)

// ledger records the deliveries of every record of a topic, over all members of a group.
type ledger struct {
	mtx       sync.Mutex
	delivered map[[2]int64]int // partition and offset: number of returned callbacks
	under     map[int64]string // partition: member with a running callback
	problem   string
}

func newLedger() *ledger { return &ledger{delivered: map[[2]int64]int{}, under: map[int64]string{}} }

func (l *ledger) begin(who string, m Message) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if other := l.under[int64(m.Partition)]; other != "" {
		l.problem = fmt.Sprintf("%s got %d@%d while %s was at the partition", who, m.Partition, m.Offset, other)
	}
	l.under[int64(m.Partition)] = who
}

func (l *ledger) end(m Message) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	delete(l.under, int64(m.Partition))
	l.delivered[[2]int64{int64(m.Partition), m.Offset}]++
}

// note counts a record delivered by an unknown member.
func (l *ledger) note(partition int32, offset int64) {
	l.end(Message{Partition: partition, Offset: offset})
}

// count returns the number of delivered records, and of records delivered more than once.
func (l *ledger) count() (n, again int) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	for _, times := range l.delivered {
		if times > 1 {
			again++
		}
	}
	return len(l.delivered), again
}

// audit checks every commit at the brokers: all records below the offset must be delivered.
func (l *ledger) audit(cluster *kfake.Cluster) {
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		l.mtx.Lock()
		defer l.mtx.Unlock()
		for _, topic := range req.(*kmsg.OffsetCommitRequest).Topics {
			for _, p := range topic.Partitions {
				for o := range p.Offset {
					if l.delivered[[2]int64{int64(p.Partition), o}] == 0 && l.problem == "" {
						l.problem = fmt.Sprintf("committed %d@%d, and %d was not delivered", p.Partition, p.Offset, o)
					}
				}
			}
		}
		return nil, nil, false
	})
}

func (l *ledger) check(t *testing.T) {
	t.Helper()
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if l.problem != "" {
		t.Error(l.problem)
	}
}

// TestRebalanceWaitsForOneCallback checks both sides of a rebalance. No partition is released during its
// callback. The rebalance waits for a single callback, not for the batch. No record is delivered twice.
func TestRebalanceWaitsForOneCallback(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(2, "t"))
	const n = 200
	write(t, kafkatest.Writer(t, cluster), "t", 2, 0, n)
	l := newLedger()
	l.audit(cluster)
	c := consuming(cluster.ListenAddrs()...)
	begun, hold := make(chan struct{}), make(chan struct{})
	first := subscribe(t, c, nil, []string{"t"}, func(tune *consumerTuning) {
		tune.extra = append(tune.extra, kgo.HeartbeatInterval(20*time.Millisecond))
	})
	var once sync.Once
	first.run(func(m Message) {
		l.begin("first", m)
		defer l.end(m)
		once.Do(func() {
			close(begun)
			<-hold
		})
	})
	within(t, begun, "the first callback")
	if len(within(t, first.assigned, "an assignment")["t"]) != 2 {
		t.Fatal("not all partitions")
	}
	second := listen(t, c, nil, func(m Message) {
		l.begin("second", m)
		defer l.end(m)
	}, "t")
	within(t, first.hurried, "the wish to hurry")
	select {
	case <-second.assigned:
		t.Fatal("a partition was given away under a callback")
	default:
	}
	close(hold)
	within(t, second.assigned, "the second member's partition")
	eventually(t, "every record is delivered", func() bool { done, _ := l.count(); return done == 2*n })
	if _, again := l.count(); again != 0 {
		t.Errorf("%d records were delivered twice", again)
	}
	first.mtx.Lock()
	// The rebalance came after the first callback, and the rest of the batch was taken back.
	if one := first.got[1:]; len(one) > 0 && one[0].Partition != first.got[0].Partition && one[0].Offset != 0 {
		t.Errorf("after the first callback came %v", one[0])
	}
	first.mtx.Unlock()
	if second.waitFor(n - 1); len(second.Assigned()["t"]) != 1 { // less the first record, if it was of this partition
		t.Errorf("the second member has %v", second.Assigned())
	}
	l.check(t)
}

// TestRebalanceBeforeTheBatch checks that a rebalance that arrives between poll and hand-out goes first.
func TestRebalanceBeforeTheBatch(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 10)
	m := subscribe(t, consuming(cluster.ListenAddrs()...), nil, []string{"t"})
	s, ctx, size, _ := m.begin()
	var fetches kgo.Fetches
	for fetches.NumRecords() == 0 {
		fetches = s.client.PollRecords(ctx, size)
	}
	m.hurry(s)
	if batch := m.take(s, fetches, 500); batch != nil {
		t.Fatalf("a batch of %d although a rebalance waits", batch.Len())
	}
	batch, ok := m.Next(500)
	if !ok || batch.Len() != 10 || m.hurrying.Load() {
		t.Errorf("then a batch of %v, %v", batch, ok)
	}
}

// TestConsumerHooks checks that requests canceled by the client itself count as no error.
func TestConsumerHooks(t *testing.T) {
	log, status := kafkatest.NewLines(), &client.Status{}
	h := consumerHooks{client.NewHooks(kafkatest.Connection(), "records wait there", log, status, time.Now), newBatchReads()}
	h.OnBrokerE2E(kgo.BrokerMetadata{Host: "b", Port: 1}, int16(kmsg.OffsetFetch), kgo.BrokerE2E{WriteErr: errors.New(client.ConnectionDied)})
	if lines := log.Above(host.Debug); len(lines) != 0 || status.Snapshot().Failures != 0 {
		t.Errorf("lines: %v", lines)
	}
	h.OnBrokerE2E(kgo.BrokerMetadata{Host: "b", Port: 1}, int16(kmsg.OffsetFetch), kgo.BrokerE2E{WriteErr: errors.New("broken")})
	log.WaitFor(t, host.Warning, "broker b:1 does not answer: broken; records wait there")
}

// TestMembersComeAndGo checks random histories of joins, stops and closes: every record is delivered, no
// offset is committed before its delivery, and no two members have the same partition.
func TestMembersComeAndGo(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(4, "t"))
	cl := kafkatest.Writer(t, cluster)
	l := newLedger()
	l.audit(cluster)
	c := consuming(cluster.ListenAddrs()...)
	c.AutoCommitInterval = 100 * time.Millisecond
	// When a waiting member leaves, this broker decrements the count of joined members, and waits for a
	// surplus member until this timeout.
	c.MaxPollInterval = kafkatest.Patience / 2
	random := rand.New(rand.NewPCG(1, uint64(time.Now().UnixNano())))
	var members []*module
	number, log := 0, kafkatest.NewLines()
	join := func() {
		number++
		who := fmt.Sprint("member ", number)
		m := subscribe(t, c, log, []string{"t"}, func(tune *consumerTuning) {
			tune.extra = append(tune.extra, kgo.HeartbeatInterval(20*time.Millisecond))
		})
		m.run(func(one Message) {
			l.begin(who, one)
			defer l.end(one)
			if one.Offset%50 == 0 {
				time.Sleep(time.Millisecond) // a slow callback
			}
		})
		members = append(members, m)
	}
	join()
	const steps, each = 12, 50
	for step := range steps {
		write(t, cl, "t", 4, step*each, (step+1)*each)
		switch k := random.IntN(3); {
		case k < 2 && len(members) < 4:
			join()
			within(t, members[len(members)-1].assigned, "an assignment")
		case len(members) > 1:
			i := random.IntN(len(members))
			members[i].Stop()
			<-members[i].over
			members = append(members[:i], members[i+1:]...)
		}
	}
	eventually(t, "every record is delivered", func() bool { n, _ := l.count(); return n == 4*steps*each })
	if _, again := l.count(); again != 0 {
		t.Errorf("%d records came twice, although every member left in order", again)
	}
	l.check(t)
	if lines := log.Above(host.Notice); len(lines) != 0 {
		t.Errorf("nothing went wrong, but: %v", lines)
	}
}

// TestJoiningTakesItsTime checks that a wait for a slow member of the group, longer than socket_timeout_ms,
// does not count as an unresponsive broker.
func TestJoiningTakesItsTime(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(2, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 2, 0, 1)
	c := consuming(cluster.ListenAddrs()...)
	begun, hold := make(chan struct{}, 2), make(chan struct{})
	slow := subscribe(t, c, nil, []string{"t"}, func(tune *consumerTuning) {
		tune.extra = append(tune.extra, kgo.HeartbeatInterval(20*time.Millisecond))
	})
	slow.run(func(Message) { begun <- struct{}{}; <-hold })
	within(t, begun, "the callback")
	log := kafkatest.NewLines()
	c = consuming(cluster.ListenAddrs()...)
	c.SocketTimeout = 1500 * time.Millisecond
	joins := watchRequests(cluster, kmsg.JoinGroup)
	m := listen(t, c, log, nil, "t")
	within(t, slow.hurried, "the rebalance")
	select {
	case <-m.assigned:
		t.Fatal("not held up")
	case <-time.After(2 * c.SocketTimeout): // silence is expected for this time
	}
	close(hold)
	within(t, m.assigned, "an assignment")
	if lines := log.Above(host.Notice); len(lines) != 0 {
		t.Errorf("lines: %v", lines)
	}
	if n := len(joins); n > 4 { // two of the new member, for its id, and one or two of the other
		t.Errorf("%d joins", n)
	}
}

// TestMembersOfOtherKinds checks that a member of another client, with additional cooperative strategies,
// shares the group.
func TestMembersOfOtherKinds(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(2, "t"))
	other, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ConsumerGroup("g"), kgo.ConsumeTopics("t"),
		kgo.DisableClientMetrics(), kgo.Balancers(kgo.CooperativeStickyBalancer(), kgo.RoundRobinBalancer()),
		kgo.HeartbeatInterval(20*time.Millisecond), kgo.SessionTimeout(time.Second))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	eventually(t, "the other has joined", func() bool {
		info := cluster.GroupInfo("g")
		return info != nil && info.NumAssigned() == 2
	})
	m := listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
	for a := within(t, m.assigned, "a share"); len(a["t"]) != 1; {
		a = within(t, m.assigned, "a share")
	}
}

// TestGroupTroubles checks that the consumer rejoins after any end of its membership, without a skipped
// record.
func TestGroupTroubles(t *testing.T) {
	fault := func(key kmsg.Key, err *kerr.Error) func(*kfake.Cluster) {
		return func(cluster *kfake.Cluster) { cluster.Fault(kfake.Fault{Keys: []kmsg.Key{key}, Err: err}) }
	}
	for name, trouble := range map[string]func(*kfake.Cluster){
		"unknown member":       fault(kmsg.Heartbeat, kerr.UnknownMemberID),
		"fenced":               fault(kmsg.Heartbeat, kerr.FencedInstanceID),
		"old generation":       fault(kmsg.Heartbeat, kerr.IllegalGeneration),
		"coordinator moves":    func(cluster *kfake.Cluster) { cluster.RehashCoordinators() },
		"leaders move":         func(cluster *kfake.Cluster) { cluster.ShufflePartitionLeaders() },
		"commit refused":       fault(kmsg.OffsetCommit, kerr.IllegalGeneration),
		"not the coordinator":  fault(kmsg.Heartbeat, kerr.NotCoordinator),
		"joining is refused":   fault(kmsg.JoinGroup, kerr.CoordinatorNotAvailable),
		"offsets not readable": fault(kmsg.OffsetFetch, kerr.CoordinatorLoadInProgress),
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := kafkatest.Broker(t, quickGroup, kfake.NumBrokers(3), kfake.SeedTopics(3, "t"))
			cl := kafkatest.Writer(t, cluster)
			l := newLedger()
			l.audit(cluster)
			beats := watchRequests(cluster, kmsg.Heartbeat)
			if strings.HasPrefix(name, "joining") || strings.HasPrefix(name, "offsets") {
				trouble(cluster)
			}
			c := consuming(cluster.ListenAddrs()...)
			c.AutoCommitInterval = time.Millisecond
			m := subscribe(t, c, nil, []string{"t"}, func(tune *consumerTuning) {
				tune.extra = append(tune.extra, kgo.HeartbeatInterval(20*time.Millisecond))
			})
			m.run(func(one Message) { l.end(one) })
			write(t, cl, "t", 3, 0, 20)
			eventually(t, "the first records", func() bool { n, _ := l.count(); return n == 60 })
			trouble(cluster)
			within(t, beats, "a heartbeat")
			write(t, cl, "t", 3, 20, 40)
			eventually(t, "the records after", func() bool { n, _ := l.count(); return n == 120 })
			l.check(t)
		})
	}
}

// TestBrokerComesBack checks that consumption continues after the loss of all connections and a time without
// new connections.
func TestBrokerComesBack(t *testing.T) {
	d := &kafkatest.Door{Tries: make(chan struct{}, 100)}
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		d.Listener = l
		return d, err
	}))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "t", 1, 0, 5)
	log := kafkatest.NewLines()
	m := listen(t, consuming(cluster.ListenAddrs()...), log, nil, "t")
	m.waitFor(5)
	d.Cut(true)
	for range 5 {
		within(t, d.Tries, "an attempt")
	}
	d.Open()
	write(t, cl, "t", 1, 5, 10)
	inOrder(t, m.waitFor(10))
	log.WaitFor(t, host.Warning, "records wait there")
	log.WaitFor(t, host.Notice, "is back after")
}

// TestNotAuthorized checks that a refusal of the group or of a topic is logged once per cause and ends
// without help, and that other topics continue.
func TestNotAuthorized(t *testing.T) {
	for name, one := range map[string]struct {
		fault kfake.Fault
		line  string
	}{
		"group": {
			kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator, kmsg.JoinGroup}, Err: kerr.GroupAuthorizationFailed, Count: -1},
			"connection my-kafka: group g: GROUP_AUTHORIZATION_FAILED: this user is not authorized to consume in the group (see group_id; the cluster's ACLs must allow Read on the group); trying again",
		},
		"topic": {
			kfake.Fault{Keys: []kmsg.Key{kmsg.Metadata}, Topic: "t", Err: kerr.TopicAuthorizationFailed, Count: -1},
			"connection my-kafka: topic t: TOPIC_AUTHORIZATION_FAILED: this user is not authorized to read the topic (the cluster's ACLs must allow Read on it); trying again",
		},
		"fetching": {
			kfake.Fault{Keys: []kmsg.Key{kmsg.Fetch}, Topic: "t", Err: kerr.TopicAuthorizationFailed, Count: -1},
			"connection my-kafka: topic t partition 0: TOPIC_AUTHORIZATION_FAILED: this user is not authorized to read the topic (the cluster's ACLs must allow Read on it); trying again",
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t", "other"))
			cl := kafkatest.Writer(t, cluster)
			write(t, cl, "t", 1, 0, 1)
			write(t, cl, "other", 1, 0, 1)
			refusal := cluster.Fault(one.fault)
			log := kafkatest.NewLines()
			m := listen(t, consuming(cluster.ListenAddrs()...), log, nil, "t", "other")
			log.WaitFor(t, host.Error, one.line)
			ctx, cancel := context.WithTimeout(t.Context(), kafkatest.Patience)
			defer cancel()
			if err := refusal.Wait(ctx, 8); err != nil { // the consumer keeps trying
				t.Fatal(err)
			}
			if name != "group" {
				if got := m.waitFor(1); got[0].Topic != "other" {
					t.Errorf("got %s", got[0].Topic)
				}
			}
			refusal.Remove()
			m.waitFor(2)
			about, _, _ := strings.Cut(strings.TrimPrefix(one.line, "connection my-kafka: "), ": ")
			log.WaitFor(t, host.Notice, "connection my-kafka: "+about+" works again after ")
			var seen []kafkatest.Line
			for _, l := range log.Above(host.Warning) {
				if l.Level == host.Error {
					seen = append(seen, l)
				}
			}
			if len(seen) != 1 {
				t.Errorf("%d lines: %v", len(seen), seen)
			}
		})
	}
}

func TestNoOffsetAndNoReset(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(2, "t"))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "t", 2, 0, 5)
	// Only partition 1 has a committed offset.
	offsets := kadm.Offsets{}
	offsets.AddOffset("t", 1, 2, -1)
	if err := kadm.NewClient(cl).CommitAllOffsets(t.Context(), "g", offsets); err != nil {
		t.Fatal(err)
	}
	c := consuming(cluster.ListenAddrs()...)
	c.AutoOffsetReset = "none"
	log := kafkatest.NewLines()
	m := listen(t, c, log, nil, "t")
	log.WaitFor(t, host.Error, "connection my-kafka: topic t partition 0: group g has no committed offset and auto_offset_reset = none; "+
		"not consumed until one is committed and the group rebalances")
	for i, one := range m.waitFor(3) {
		if one.Partition != 1 || one.Offset != int64(2+i) {
			t.Errorf("got %d@%d", one.Partition, one.Offset)
		}
	}
	write(t, cl, "t", 2, 5, 6)
	m.waitFor(4)
	if lines := log.Above(host.Error); len(lines) != 1 {
		t.Errorf("lines: %v", lines)
	}
}

func TestLatest(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "t", 1, 0, 5)
	c := consuming(cluster.ListenAddrs()...)
	c.AutoOffsetReset = "latest"
	fetches := watchRequests(cluster, kmsg.Fetch)
	m := listen(t, c, nil, nil, "t")
	within(t, fetches, "the first fetch")
	write(t, cl, "t", 1, 5, 6)
	if got := m.waitFor(1); got[0].Offset != 5 {
		t.Errorf("began at %d, want the end", got[0].Offset)
	}
}

// TestTopicAppears checks that a missing topic is logged once and consumed after its creation, also beside a
// pattern. Names are then literal.
func TestTopicAppears(t *testing.T) {
	for name, topics := range map[string][]string{
		"by name": {"late.topic", "there"}, "beside a pattern": {"late.topic", "^th.re$"},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "there", "lateXtopic", "xthere", "xlate.topic", "late.topics"))
			cl := kafkatest.Writer(t, cluster)
			write(t, cl, "late.topics", 1, 0, 1)
			write(t, cl, "xlate.topic", 1, 0, 1)
			write(t, cl, "there", 1, 0, 1)
			write(t, cl, "lateXtopic", 1, 0, 1)
			write(t, cl, "xthere", 1, 0, 1)
			log := kafkatest.NewLines()
			looks := watchRequests(cluster, kmsg.Metadata)
			m := listen(t, consuming(cluster.ListenAddrs()...), log, nil, topics...)
			log.WaitFor(t, host.Warning, "connection my-kafka: topic late.topic, which group g subscribes to, does not exist; "+
				"it is consumed as soon as it does")
			m.waitFor(1)
			for len(looks) > 0 {
				<-looks
			}
			for range 3 {
				within(t, looks, "another look for the topic")
			}
			req := kmsg.NewPtrCreateTopicsRequest()
			one := kmsg.NewCreateTopicsRequestTopic()
			one.Topic, one.NumPartitions, one.ReplicationFactor = "late.topic", 1, 1
			req.Topics = append(req.Topics, one)
			if _, err := req.RequestWith(t.Context(), cl); err != nil {
				t.Fatal(err)
			}
			write(t, cl, "late.topic", 1, 0, 1)
			got := m.waitFor(2)
			if got[0].Topic != "there" || got[1].Topic != "late.topic" || len(got) != 2 {
				t.Errorf("got %v", got)
			}
			log.WaitFor(t, host.Notice, "connection my-kafka: topic late.topic is there now")
			if lines := log.Above(host.Warning); len(lines) != 1 {
				t.Errorf("lines: %v", lines)
			}
		})
	}
}

// TestConsumerOptionsOnTheWire checks the effect of options on requests.
func TestConsumerOptionsOnTheWire(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	joins, fetches := watchRequests(cluster, kmsg.JoinGroup), watchRequests(cluster, kmsg.Fetch)
	beats := watchRequests(cluster, kmsg.Heartbeat)
	c := consuming(cluster.ListenAddrs()...)
	c.GroupID, c.SessionTimeout, c.MaxPollInterval, c.MessageMaxBytes = "other", 1500*time.Millisecond, 7*time.Second, 60<<20
	listen(t, c, nil, nil, "t")
	join := within(t, joins, "a join").(*kmsg.JoinGroupRequest)
	var strategies []string
	for _, p := range join.Protocols {
		strategies = append(strategies, p.Name)
	}
	if join.Group != "other" || join.SessionTimeoutMillis != 1500 || join.RebalanceTimeoutMillis != 7000 ||
		strings.Join(strategies, " ") != "range roundrobin" {
		t.Errorf("join: %+v", join)
	}
	fetch := within(t, fetches, "a fetch").(*kmsg.FetchRequest)
	if fetch.MaxWaitMillis != 500 || fetch.MaxBytes != 60<<20 || fetch.IsolationLevel != 1 || fetch.MinBytes != 1 {
		t.Errorf("fetch: %+v", fetch)
	}
	within(t, beats, "a heartbeat")
	least := kafkatest.Patience
	for range 5 { // any request may be late on a busy machine
		begun := time.Now()
		within(t, beats, "another")
		if least = min(least, time.Since(begun)); least < c.SessionTimeout/2 {
			return
		}
	}
	t.Errorf("heartbeats come every %v, too rarely for the session to live", least)
}

// TestTransactions checks read_committed: records of an aborted transaction are not delivered.
func TestTransactions(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	cl, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.TransactionalID("x"), kgo.DisableClientMetrics())
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	for value, end := range map[string]kgo.TransactionEndTry{"no": kgo.TryAbort, "yes": kgo.TryCommit} {
		if err := errors.Join(cl.BeginTransaction(),
			cl.ProduceSync(t.Context(), &kgo.Record{Topic: "t", Value: []byte(value)}).FirstErr(),
			cl.EndTransaction(t.Context(), end)); err != nil {
			t.Fatal(err)
		}
	}
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 1)
	m := listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
	if got := m.waitFor(2); string(got[0].Value) != "yes" || string(got[1].Value) != "0" {
		t.Errorf("got %s, %s", got[0].Value, got[1].Value)
	}
}
