package consume

import (
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/kversion"

	"reskafka/internal/host"
	"reskafka/test/kafkatest"
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
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 10)
	c := consuming(cluster.ListenAddrs()...)
	c.AutoCommitInterval = minCommitInterval
	release, _ := kafkatest.Hang(t, cluster, kmsg.OffsetCommit)
	log, written := kafkatest.NewLines(), make(writes, 1000)
	m := subscribe(t, c, log, []string{"t"}, func(tune *consumerTuning) {
		tune.closeWait = kafkatest.Patience
		tune.extra = append(tune.extra, kgo.WithHooks(written))
	})
	m.run(nil)
	m.waitFor(10)
	written.waitFor(t, kmsg.OffsetCommit) // the periodic one, which the broker holds
	m.Stop()
	written.waitFor(t, kmsg.OffsetCommit) // the one of leaving: the periodic one was cut short
	release()
	within(t, m.over, "the end")
	if lines := log.Above(host.Notice); len(lines) != 0 {
		t.Errorf("nothing went wrong, but: %v", lines)
	}
	if n := commits(cluster, "g", "t", 0); n != 10 {
		t.Errorf("committed: %d", n)
	}
}

// ever is a limit that a test does not reach: what returns before patience is over did not wait for it.
const ever = 2 * kafkatest.Patience

// joiner is a member whose leaving may take that long.
func joiner(t *testing.T, cluster *kfake.Cluster, closeWait time.Duration, callback func(Message)) (*module, *kafkatest.Lines) {
	t.Helper()
	log := kafkatest.NewLines()
	m := subscribe(t, consuming(cluster.ListenAddrs()...), log, []string{"t"}, func(tune *consumerTuning) {
		tune.closeWait = closeWait
		tune.extra = append(tune.extra, kgo.HeartbeatInterval(20*time.Millisecond))
	})
	m.run(callback)
	return m, log
}

// busy is a member with a callback under way, for which a rebalance waits.
func busy(t *testing.T, cluster *kfake.Cluster) (m *module, release func()) {
	t.Helper()
	write(t, kafkatest.Writer(t, cluster), "t", 2, 0, 1)
	begun, gate := make(chan struct{}, 10), make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	t.Cleanup(release)
	m, _ = joiner(t, cluster, ever, func(Message) { begun <- struct{}{}; <-gate })
	within(t, begun, "the callback")
	return m, release
}

func members(cluster *kfake.Cluster) int {
	if info := cluster.GroupInfo("g"); info != nil {
		return len(info.Members)
	}
	return 0
}

// TestLeavingWhileJoining holds that a member that is ended is out of its group whatever it waited for there, that nobody
// has to wait for the answer, and that nothing is said about it. The brokers' own limits are longer than the test.
func TestLeavingWhileJoining(t *testing.T) {
	for name, await := range map[string]func(*testing.T, *kfake.Cluster) func(*module){
		"for its turn": func(t *testing.T, cluster *kfake.Cluster) func(*module) {
			other, _ := busy(t, cluster)
			return func(*module) { within(t, other.hurried, "the rebalance") }
		},
		"for its share": func(t *testing.T, cluster *kfake.Cluster) func(*module) {
			_, asked := kafkatest.Hang(t, cluster, kmsg.SyncGroup)
			return func(*module) { within(t, asked, "a SyncGroup") }
		},
		"for nothing": func(t *testing.T, _ *kfake.Cluster) func(*module) {
			return func(m *module) { within(t, m.assigned, "an assignment") }
		},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := kafkatest.Broker(t, kfake.SeedTopics(2, "t"))
			joining := await(t, cluster)
			others := members(cluster)
			m, log := joiner(t, cluster, ever, nil)
			joining(m)
			m.Stop()
			within(t, m.over, "the end")
			if n := members(cluster); n != others {
				t.Errorf("%d members, want %d", n, others)
			}
			if lines := log.Above(host.Notice); len(lines) != 0 {
				t.Errorf("nothing went wrong, but: %v", lines)
			}
		})
	}
}

func (e *entrance) state() (joining, closed bool) {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	return e.joining, e.closed
}

// TestLeavingBeforeJoining holds that a member that is ended before a broker has told it its id waits for that, and for
// nothing more.
func TestLeavingBeforeJoining(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	joins, left := watchRequests(cluster, kmsg.JoinGroup), watchRequests(cluster, kmsg.LeaveGroup)
	release, asked := kafkatest.Hang(t, cluster, kmsg.JoinGroup)
	m, _ := joiner(t, cluster, ever, nil)
	within(t, asked, "a JoinGroup")
	e := m.session.entrance
	m.Stop()
	eventually(t, "it leaves", func() bool { _, closed := e.state(); return closed })
	release()
	within(t, m.over, "the end")
	if id := within(t, left, "a LeaveGroup").(*kmsg.LeaveGroupRequest).Members[0].MemberID; id == "" {
		t.Error("it left without an id")
	}
	if n := len(joins); n != 1 {
		t.Errorf("%d joins", n)
	}
}

// TestLeavingInTheBackground holds that a member whose id is known only when it has joined, which is so before Kafka 2.2,
// holds nobody up and leaves then.
func TestLeavingInTheBackground(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(2, "t"), kfake.MaxVersions(kversion.V2_1_0()))
	other, release := busy(t, cluster)
	m, _ := joiner(t, cluster, time.Millisecond, nil)
	within(t, other.hurried, "the rebalance")
	e := m.session.entrance
	m.Stop()
	within(t, m.over, "the end")
	// One that begins to leave later, while it waits for its share, has this broker wait for one member more than there are.
	eventually(t, "it leaves", func() bool { _, closed := e.state(); return closed })
	if n := members(cluster); n != 2 {
		t.Errorf("%d members, but nobody can have left", n)
	}
	release()
	eventually(t, "it has left", func() bool { return members(cluster) == 1 })
	eventually(t, "the other has all", func() bool { return len(other.Assigned()["t"]) == 2 })
}

// TestDeparturesEnd holds that what goes on in the background ends when it is told to, and that it does not become ever
// more while the brokers do not answer.
func TestDeparturesEnd(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	_, asked := kafkatest.Hang(t, cluster, kmsg.JoinGroup)
	end := func() *Departures {
		m, _ := joiner(t, cluster, time.Millisecond, nil)
		within(t, asked, "a JoinGroup")
		m.Stop()
		within(t, m.over, "the end")
		return m.departures
	}
	under := func(d *Departures) int {
		d.mtx.Lock()
		defer d.mtx.Unlock()
		return d.under
	}
	d := end()
	if n := under(d); n != 1 {
		t.Errorf("%d under way", n)
	}
	d.End()
	eventually(t, "it is given up", func() bool { return under(d) == 0 })

	m, _ := joiner(t, cluster, time.Millisecond, nil)
	gate := make(chan struct{})
	defer close(gate)
	for range maxDepartures {
		m.departures.start(func() { <-gate })
	}
	e := m.session.entrance
	eventually(t, "it joins", func() bool { joining, _ := e.state(); return joining })
	m.Stop()
	within(t, m.over, "the end")
	eventually(t, "there is no room for it", func() bool { return under(m.departures) == maxDepartures })
}

// TestLeavingDuringARebalance holds that a member that is ended while the group waits for its callback does not join
// again only to leave: the others go on as soon as it is gone.
func TestLeavingDuringARebalance(t *testing.T) {
	for name, end := range map[string]func(*module){
		"by Close": func(m *module) { m.Close() },
		"by the watchdog": func(m *module) {
			m.Consumer.mtx.Lock()
			m.since = m.since.Add(-m.maxPoll)
			m.Consumer.mtx.Unlock()
			m.look()
		},
	} {
		t.Run(name, func(t *testing.T) {
			cluster := kafkatest.Broker(t, kfake.SeedTopics(2, "t"))
			m, _ := busy(t, cluster)
			other, _ := joiner(t, cluster, ever, nil)
			within(t, m.hurried, "the rebalance")
			joins := watchRequests(cluster, kmsg.JoinGroup)
			end(m)
			if a := within(t, other.assigned, "its share"); len(a["t"]) != 2 || members(cluster) != 1 {
				t.Errorf("the other has %v, and there are %d members", a, members(cluster))
			}
			if n := len(joins); n != 0 {
				t.Errorf("%d joins of a member that leaves", n)
			}
		})
	}
}

// TestCloseIsHurried holds that a limit that comes later counts, for whoever waits already too: an engine that ends gives
// groups no more time than it has itself.
func TestCloseIsHurried(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	m := subscribe(t, consuming(cluster.ListenAddrs()...), nil, []string{"t"}, func(tune *consumerTuning) { tune.closeWait = ever })
	m.run(nil)
	within(t, m.assigned, "the assignment")
	_, asked := kafkatest.Hang(t, cluster, kmsg.LeaveGroup)
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		m.Close()
	}()
	kafkatest.Await(t, asked)
	go m.CloseWithin(0)
	within(t, closed, "the first Close")
	within(t, m.over, "the end")
	began := time.Now()
	m.departures.EndWithin(ever)
	if took := time.Since(began); took > kafkatest.Patience {
		t.Errorf("what was given up took %v to end", took)
	}
}

// TestPollingWhileTheLastCommitHangs holds that the thread that polls does not wait for a broker that answers nothing,
// which a poll does that is called off while partitions are given up.
func TestPollingWhileTheLastCommitHangs(t *testing.T) {
	for name, end := range map[string]func(*module){
		"by Stop":  func(m *module) { m.Stop() },
		"by Close": func(m *module) { m.Close() },
	} {
		t.Run(name, func(t *testing.T) {
			cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
			write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 10)
			c := consuming(cluster.ListenAddrs()...)
			c.RequestTimeout = ever
			release, asked := kafkatest.Hang(t, cluster, kmsg.OffsetCommit)
			m := subscribe(t, c, nil, []string{"t"}, func(tune *consumerTuning) {
				tune.closeWait = 100 * time.Millisecond
				tune.extra = append(tune.extra, kgo.HeartbeatInterval(20*time.Millisecond))
			})
			m.run(nil)
			m.waitFor(10)
			joiner(t, cluster, 0, nil) // its turn begins when this one has committed
			within(t, asked, "the commit of what is given up")
			end(m)
			within(t, m.over, "the end")
			release()
		})
	}
}
