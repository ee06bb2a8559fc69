package consume

import (
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/metrics"
	"reskafka/test/kafkatest"
)

// shown returns a consumer's snapshot and its numbers.
func shown(c *Consumer) (ConsumerSnapshot, *metrics.Values) {
	v := metrics.Of("c").In(metrics.Subscription, "1")
	return c.Snapshot(v), v
}

// offsetOf returns an offset of a partition of topic t, -1 if there is none.
func offsetOf(v *metrics.Values, m *metrics.Metric, partition int) int64 {
	n, ok := v.At(metrics.Topic, "t").At(metrics.Partition, strconv.Itoa(partition)).Get(m)
	if !ok {
		return -1
	}
	return int64(n)
}

// expectPlace fails unless partition 0 of topic t has these numbers.
func expectPlace(t *testing.T, v *metrics.Values, position, end, lag, committed int64) {
	t.Helper()
	for _, want := range []struct {
		metric *metrics.Metric
		n      int64
	}{
		{metrics.Position, position}, {metrics.HighWatermark, end}, {metrics.Lag, lag}, {metrics.Committed, committed},
	} {
		if n := offsetOf(v, want.metric, 0); n != want.n {
			t.Errorf("%s is %d, want %d", want.metric.Name, n, want.n)
		}
	}
}

// TestConsumerSnapshot_SlowCallback_ShowsLag guards that messages without a returned callback count as lag,
// although the client has already passed on all of them.
func TestConsumerSnapshot_SlowCallback_ShowsLag(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "t", 1, 0, 10)
	slow := make(chan struct{})
	m := listen(t, consuming(cluster.ListenAddrs()...), nil, func(one Message) {
		if one.Offset == 3 {
			<-slow
		}
	}, "t")
	release := sync.OnceFunc(func() { close(slow) })
	t.Cleanup(release)
	m.wait(func(got []Message) bool { return len(got) == 4 })
	_, v := shown(m.Consumer)
	expectPlace(t, v, 3, 10, 7, -1)
	if _, runs := v.Get(metrics.CallbackRunning); !runs || v.Sum(metrics.Delivered) != 3 {
		t.Errorf("%d messages are delivered, a callback runs: %t", v.Sum(metrics.Delivered), runs)
	}
	release()
	m.waitFor(10)
	if err := m.Commit(t.Context(), false); err != nil {
		t.Fatal(err)
	}
	write(t, cl, "t", 1, 10, 12)
	m.waitFor(12)
	_, v = shown(m.Consumer)
	expectPlace(t, v, 12, 12, 0, 10)
	m.Close()
	again := listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
	kafkatest.Soon(t, "the next member knows what was committed", func() bool {
		_, v = shown(again.Consumer)
		return offsetOf(v, metrics.Committed, 0) == 12 && offsetOf(v, metrics.Position, 0) == 12
	})
}

// TestConsumerSnapshot_SlowCallback_LagGrows guards that the lag of a slow module grows with the log,
// although the client fetches nothing before all of its records were polled. No line reports a partition
// without progress.
func TestConsumerSnapshot_SlowCallback_LagGrows(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "t", 1, 0, 10)
	log, slow := kafkatest.NewLines(), make(chan struct{})
	var clock atomic.Int64
	clock.Store(time.Now().UnixNano())
	m := subscribe(t, consuming(cluster.ListenAddrs()...), log, []string{"t"}, func(tune *consumerTuning) {
		tune.progress = time.Millisecond
		tune.now = func() time.Time { return time.Unix(0, clock.Load()) }
	})
	m.run(func(one Message) {
		if one.Offset == 3 {
			<-slow
		}
	})
	release := sync.OnceFunc(func() { close(slow) })
	t.Cleanup(release)
	m.wait(func(got []Message) bool { return len(got) == 4 })
	for from := 10; from < 30; from += 10 {
		write(t, cl, "t", 1, from, from+10)
		kafkatest.Soon(t, "the client has fetched some of it", func() bool {
			m.Consumer.mtx.Lock()
			defer m.Consumer.mtx.Unlock()
			return m.session.client.BufferedFetchRecords() > 0
		})
		clock.Add(int64(progressStill))
		kafkatest.Soon(t, "the lag has grown", func() bool {
			_, v := shown(m.Consumer)
			return offsetOf(v, metrics.Position, 0) == 3 && offsetOf(v, metrics.Lag, 0) == int64(from+10-3)
		})
	}
	if lines := log.Above(host.Notice); len(lines) != 0 {
		t.Errorf("lines: %v", lines)
	}
	release()
	m.waitFor(30)
}

// TestConsumerSnapshot_Callbacks_AreTimed checks the average over a batch. A callback observed as slow counts
// as the longest, regardless of fast callbacks.
func TestConsumerSnapshot_Callbacks_AreTimed(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	m := watchOver(t, cluster, nil, nil, "t")
	m.run(func(one Message) {
		if one.Offset == 3 {
			shown(m.Consumer)
			m.clock.Add(int64(600 * time.Millisecond))
			if _, v := shown(m.Consumer); v.Duration(metrics.CallbackRunning) != 600*time.Millisecond {
				t.Errorf("the callback is seen to run for %v", v.Duration(metrics.CallbackRunning))
			}
			return
		}
		m.clock.Add(int64(10 * time.Millisecond))
	})
	cl := kafkatest.Writer(t, cluster)
	from := 0
	for _, to := range []int{1, 3, 20, 21} { // the slow callback belongs to a batch of fast callbacks
		write(t, cl, "t", 1, from, to)
		m.waitFor(to)
		from = to
	}
	var last, longest time.Duration
	kafkatest.Soon(t, "the last batch has come back", func() bool {
		_, v := shown(m.Consumer)
		_, runs := v.Get(metrics.CallbackRunning)
		last, longest = v.Duration(metrics.CallbackLast), v.Duration(metrics.CallbackMax)
		return !runs && last == 10*time.Millisecond
	})
	if longest != 600*time.Millisecond {
		t.Errorf("last %v, longest %v", last, longest)
	}
}

// wantState waits until a consumer is in a state.
func (m *module) wantState(state MemberState) (snap ConsumerSnapshot) {
	m.t.Helper()
	defer func() {
		if m.t.Failed() {
			m.t.Logf("shown: %+v", snap)
		}
	}()
	kafkatest.Soon(m.t, "the state is "+string(state), func() bool {
		snap, _ = shown(m.Consumer)
		return snap.State == state
	})
	return snap
}

// TestConsumerSnapshot_States_FollowTheGroup checks the states of a consumer with a broker.
func TestConsumerSnapshot_States_FollowTheGroup(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	release, asked := kafkatest.Hang(t, cluster, kmsg.JoinGroup)
	m := listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
	within(t, asked, "a JoinGroup")
	if snap := m.wantState(Joining); snap.Joined || snap.MemberID != "" {
		t.Errorf("while joining: %+v", snap)
	}
	release()
	if snap := m.wantState(Stable); !snap.Joined || snap.MemberID == "" || len(snap.Partitions) != 1 {
		t.Errorf("as a member: %+v", snap)
	}
	m.Pause()
	if snap := m.wantState(Paused); !snap.Partitions[0].Paused {
		t.Errorf("paused: %+v", snap.Partitions)
	}
	m.Resume()
	m.Pause("t")
	m.wantState(Paused)
	m.Resume("t")
	m.wantState(Stable)
	m.Close()
	m.wantState(Left)
}

// TestConsumerSnapshot_BrokersGone_IsAnError checks that the state changes with the brokers, with a sentence
// and a time, although the group has not excluded the member.
func TestConsumerSnapshot_BrokersGone_IsAnError(t *testing.T) {
	cluster, door := kafkatest.NewDoor(t, quickGroup, kfake.SeedTopics(1, "t"))
	m := listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
	m.wantState(Stable)
	door.Cut(true)
	if snap := m.wantState(Failing); snap.Brokers.LastError.Text == "" || snap.Brokers.LastError.At.IsZero() {
		t.Errorf("without a broker: %+v", snap.Brokers.LastError)
	}
}

// TestConsumerSnapshot_GroupRefused_IsAnError checks that a refused member is not shown as joining.
func TestConsumerSnapshot_GroupRefused_IsAnError(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(1, "t"))
	cluster.ControlKey(int16(kmsg.JoinGroup), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		resp := req.ResponseKind().(*kmsg.JoinGroupResponse)
		resp.ErrorCode = kerr.GroupAuthorizationFailed.Code
		return resp, nil, true
	})
	m := listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
	if snap := m.wantState(Failing); !strings.Contains(snap.Brokers.LastError.Text, "group g") {
		t.Errorf("refused: %+v", snap.Brokers.LastError)
	}
}

// TestConsumerSnapshot_Rebalance_ChangesAssignment checks that partitions of another member are neither shown
// nor counted as lag after a rebalance.
func TestConsumerSnapshot_Rebalance_ChangesAssignment(t *testing.T) {
	cluster := kafkatest.Broker(t, quickGroup, kfake.SeedTopics(4, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 4, 0, 10)
	one := listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
	one.waitFor(40)
	snap, v := shown(one.Consumer)
	first := v.Time(metrics.LastRebalance)
	if len(snap.Partitions) != 4 || v.Sum(metrics.Assigned) != 4 || v.Sum(metrics.Rebalances) != 1 || first.IsZero() {
		t.Errorf("alone: %+v, %d assignments, the last at %v", snap.Partitions, v.Sum(metrics.Rebalances), first)
	}
	listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
	kafkatest.Soon(t, "they share the partitions", func() bool {
		snap, v = shown(one.Consumer)
		return len(snap.Partitions) == 2 && snap.State == Stable
	})
	if n := v.Sum(metrics.Rebalances); v.Sum(metrics.Assigned) != 2 || n < 2 || !v.Time(metrics.LastRebalance).After(first) {
		t.Errorf("shared: %d partitions, %d assignments", v.Sum(metrics.Assigned), n)
	}
}
