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

// writes reports every request written by a client.
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

// TestLeavingDuringACommit checks that a periodic commit canceled by a leave does not count as a failed
// commit.
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
	written.waitFor(t, kmsg.OffsetCommit) // the periodic commit, held at the broker
	m.Stop()
	written.waitFor(t, kmsg.OffsetCommit) // the commit of the leave: the periodic commit was canceled
	release()
	within(t, m.over, "the end")
	if lines := log.Above(host.Notice); len(lines) != 0 {
		t.Errorf("nothing went wrong, but: %v", lines)
	}
	if n := commits(cluster, "g", "t", 0); n != 10 {
		t.Errorf("committed: %d", n)
	}
}

// ever is a limit beyond the length of the test: a call that returns before patience ends did not wait for
// the limit.
const ever = 2 * kafkatest.Patience

// joiner returns a member with the limit closeWait for its leave.
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

// TestLeavingWhileJoining checks that a stopped member is out of its group during any wait of its join, that
// no caller waits for the answer, and that nothing is logged. The brokers' own limits are longer than the
// test.
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

// TestLeavingBeforeJoining checks that a member stopped before the arrival of its id waits for the id, and
// for nothing else.
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

// TestLeavingInTheBackground checks that a member that learns its id only at the end of the join, as before
// Kafka 2.2, blocks no caller and leaves then.
func TestLeavingInTheBackground(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(2, "t"), kfake.MaxVersions(kversion.V2_1_0()))
	other, release := busy(t, cluster)
	m, _ := joiner(t, cluster, time.Millisecond, nil)
	within(t, other.hurried, "the rebalance")
	e := m.session.entrance
	m.Stop()
	within(t, m.over, "the end")
	// A member that begins to leave later, during its wait, makes this broker wait for a surplus member.
	eventually(t, "it leaves", func() bool { _, closed := e.state(); return closed })
	if n := members(cluster); n != 2 {
		t.Errorf("%d members, but nobody can have left", n)
	}
	release()
	eventually(t, "it has left", func() bool { return members(cluster) == 1 })
	eventually(t, "the other has all", func() bool { return len(other.Assigned()["t"]) == 2 })
}

// TestDeparturesEnd checks that End stops background departures, and that their number has a limit while the
// brokers do not answer.
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

// TestLeavingDuringARebalance checks that a member stopped while the group waits for its callback does not
// join again before its leave. The other members continue as soon as the member is gone.
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

// TestCloseIsHurried checks that a later limit also applies to a running Close: an ending engine gives groups
// no more time than itself.
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

// TestPollingWhileTheLastCommitHangs checks that the polling thread does not wait for an unresponsive broker.
// A canceled poll would wait during a revocation of partitions.
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
			joiner(t, cluster, 0, nil) // starts after the commit of this member
			within(t, asked, "the commit of what is given up")
			end(m)
			within(t, m.over, "the end")
			release()
		})
	}
}
