package consume

import (
	"context"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/record"
	"reskafka/test/kafkatest"
)

// consuming returns a consuming connection with the defaults of kafka.conf except auto_offset_reset.
func consuming(brokers ...string) *config.Connection {
	c := kafkatest.Connection(brokers...)
	c.GroupID, c.AutoOffsetReset, c.AutoCommit = "g", "earliest", true
	c.AutoCommitInterval, c.SessionTimeout, c.MaxPollInterval = 5*time.Second, 45*time.Second, 300*time.Second
	return c
}

// module plays the C module of a consumer: a thread, a callback and the memory of Progress.
type module struct {
	*Consumer
	t        *testing.T
	callback func(Message)
	assigned chan map[string][]int32
	over     chan struct{} // closed when Next has returned false

	delivered atomic.Uint64
	hurrying  atomic.Bool
	hurried   chan struct{}

	mtx  sync.Mutex
	got  []Message
	more chan struct{}
}

func (m *module) Delivered() uint64 { return m.delivered.Load() }

func (m *module) Hurry(set bool) {
	m.hurrying.Store(set)
	if set {
		poke(m.hurried)
	}
}

func poke(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// subscribe starts a consumer without a thread.
func subscribe(t *testing.T, c *config.Connection, log host.Logger, topics []string, adjust ...func(*consumerTuning)) *module {
	t.Helper()
	m := newModule(t)
	m.start(c, log, topics, m, adjust...)
	return m
}

func newModule(t *testing.T) *module {
	return &module{
		t: t, assigned: make(chan map[string][]int32, 100), over: make(chan struct{}),
		hurried: make(chan struct{}, 1), more: make(chan struct{}, 1),
	}
}

// start creates the consumer; progress is the module, or contains the module.
func (m *module) start(c *config.Connection, log host.Logger, topics []string, progress Progress, adjust ...func(*consumerTuning)) {
	t := m.t
	t.Helper()
	tune := defaultConsumerTuning()
	tune.closeWait = ever // a test sees the complete Close on any machine
	tune.missing = 50 * time.Millisecond
	tune.pause = 2 * time.Millisecond
	tune.extra = []kgo.Opt{kgo.MetadataMinAge(20 * time.Millisecond)}
	tune.onAssigned = func(a map[string][]int32) { m.assigned <- a }
	for _, fn := range adjust {
		fn(&tune)
	}
	departures := NewDepartures()
	t.Cleanup(departures.End)
	var err error
	if m.Consumer, err = newConsumer(c, topics, log, nil, progress, departures, tune); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { m.CloseWithin(defaultConsumerTuning().closeWait) }) // some tests leave unresponsive brokers behind
}

// inTime limits Close to the usual time outside of tests.
func inTime(tune *consumerTuning) { tune.closeWait = defaultConsumerTuning().closeWait }

// listen is subscribe with a thread that delivers to callback, which may be nil.
func listen(t *testing.T, c *config.Connection, log host.Logger, callback func(Message), topics ...string) *module {
	t.Helper()
	m := subscribe(t, c, log, topics)
	m.run(callback)
	return m
}

func (m *module) run(callback func(Message)) {
	m.callback = callback
	go func() {
		defer close(m.over)
		for {
			batch, ok := m.Next(50)
			if !ok {
				return
			}
			for _, one := range messages(batch) {
				if m.hurrying.Load() {
					break
				}
				m.deliver(one)
			}
		}
	}()
}

// messages copies the messages of a batch.
func messages(b *Batch) []Message {
	var all []Message
	for m := range b.All() {
		one := *m
		one.Headers = slices.Clone(m.Headers)
		all = append(all, one)
	}
	return all
}

func (m *module) deliver(one Message) {
	m.mtx.Lock()
	m.got = append(m.got, one)
	m.mtx.Unlock()
	poke(m.more)
	if m.callback != nil {
		m.callback(one)
	}
	m.delivered.Add(1)
	poke(m.more)
}

// wait waits until done accepts the delivered messages, and returns the messages.
func (m *module) wait(done func([]Message) bool) []Message {
	m.t.Helper()
	limit := time.After(kafkatest.Patience)
	for {
		m.mtx.Lock()
		got := slices.Clone(m.got)
		m.mtx.Unlock()
		if done(got) {
			return got
		}
		select {
		case <-m.more:
		case <-limit:
			m.t.Fatalf("delivered: %d messages, the last %v", len(got), last(got))
		}
	}
}

func last(got []Message) string {
	if len(got) == 0 {
		return "none"
	}
	m := got[len(got)-1]
	return fmt.Sprintf("%s/%d@%d", m.Topic, m.Partition, m.Offset)
}

// WaitFor waits for n messages with returned callbacks.
func (m *module) waitFor(n int) []Message {
	m.t.Helper()
	return m.wait(func([]Message) bool { return m.delivered.Load() >= uint64(n) })
}

// write produces the values from, …, to-1 to every partition.
func write(t *testing.T, cl *kgo.Client, topic string, partitions, from, to int) {
	t.Helper()
	var records []*kgo.Record
	for i := from; i < to; i++ {
		for p := range partitions {
			records = append(records, &kgo.Record{Topic: topic, Partition: int32(p), Value: []byte(strconv.Itoa(i))})
		}
	}
	if err := cl.ProduceSync(context.Background(), records...).FirstErr(); err != nil {
		t.Fatal(err)
	}
}

// commits returns the broker's committed offset of a group, or -1.
func commits(cluster *kfake.Cluster, group, topic string, partition int32) int64 {
	if info := cluster.GroupInfo(group); info != nil {
		if c, ok := info.Commits[topic][partition]; ok {
			return c.Offset
		}
	}
	return -1
}

// watchRequests sends an event for every request with this key at the brokers.
func watchRequests(cluster *kfake.Cluster, key kmsg.Key) chan kmsg.Request {
	seen := make(chan kmsg.Request, 10000)
	cluster.ControlKey(int16(key), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		select {
		case seen <- req:
		default:
		}
		return nil, nil, false
	})
	return seen
}

// eventually looks until done says so, for the state of brokers and other processes, which announce nothing.
func eventually(t *testing.T, what string, done func() bool) {
	t.Helper()
	limit := time.Now().Add(kafkatest.Patience)
	for !done() {
		if time.Now().After(limit) {
			t.Fatalf("never: %s", what)
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func within[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(kafkatest.Patience):
		t.Fatalf("waited in vain for %s", what)
		panic("unreachable")
	}
}

func TestConsumerDelivers(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	cl := kafkatest.Writer(t, cluster)
	at := time.UnixMilli(1700000000123)
	records := []*kgo.Record{
		{Topic: "t", Timestamp: at, Key: nil, Value: nil},
		{Topic: "t", Timestamp: at, Key: []byte{}, Value: []byte{}},
		{Topic: "t", Timestamp: at, Key: []byte("k"), Value: []byte("v\x00"), Headers: []kgo.RecordHeader{
			{Key: "a", Value: []byte("1")}, {Key: "a", Value: nil}, {Key: "", Value: []byte{}},
		}},
	}
	for _, r := range records { // one by one, to preserve the order
		if err := cl.ProduceSync(context.Background(), r).FirstErr(); err != nil {
			t.Fatal(err)
		}
	}
	m := listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
	got := m.waitFor(3)
	want := []Message{
		{Topic: "t", Timestamp: at, Offset: 0},
		{Topic: "t", Timestamp: at, Offset: 1, Key: []byte{}, Value: []byte{}},
		{Topic: "t", Timestamp: at, Offset: 2, Key: []byte("k"), Value: []byte("v\x00"), Headers: []record.Header{
			{Name: "a", Value: []byte("1")}, {Name: "a"}, {Name: "", Value: []byte{}},
		}},
	}
	for i := range got {
		if !got[i].Timestamp.Equal(at) {
			t.Errorf("timestamp %v", got[i].Timestamp)
		}
		got[i].Timestamp = at
		if !reflect.DeepEqual(got[i], want[i]) {
			t.Errorf("message %d: %#v, want %#v", i, got[i], want[i])
		}
	}
	if a := m.Assigned(); len(a["t"]) != 1 {
		t.Errorf("assigned: %v", a)
	}
	m.Close()
	<-m.over
	if n := commits(cluster, "g", "t", 0); n != 3 {
		t.Errorf("committed %d, want 3", n)
	}
	if info := cluster.GroupInfo("g"); len(info.Members) != 0 {
		t.Errorf("still a member: %+v", info)
	}
	write(t, cl, "t", 1, 3, 4)
	next := listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
	if got := next.waitFor(1); got[0].Offset != 3 {
		t.Errorf("the next member began at %d", got[0].Offset)
	}
}

// TestConsumerCommitsWhatReturned checks that a message counts only after the return of its callback, in the
// periodic commit and in the commit of Close.
func TestConsumerCommitsWhatReturned(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 10)
	c := consuming(cluster.ListenAddrs()...)
	c.AutoCommitInterval = time.Millisecond
	hold := make(chan struct{})
	m := listen(t, c, nil, func(m Message) {
		if m.Offset == 4 {
			<-hold
		}
	}, "t")
	eventually(t, "4 messages are committed", func() bool { return commits(cluster, "g", "t", 0) == 4 })
	m.Close()
	if n := commits(cluster, "g", "t", 0); n != 4 {
		t.Errorf("committed %d, want 4: the fifth callback has not returned", n)
	}
	close(hold)
	<-m.over
	if n := m.delivered.Load(); n != 5 {
		t.Errorf("%d callbacks, want no other after Close", n)
	}
}

func TestConsumerStop(t *testing.T) {
	for name, inside := range map[string]bool{"inside the callback": true, "beside it": false} {
		t.Run(name, func(t *testing.T) {
			cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
			write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 10)
			m := subscribe(t, consuming(cluster.ListenAddrs()...), nil, []string{"t"})
			begun, hold := make(chan struct{}), make(chan struct{})
			m.run(func(one Message) {
				if one.Offset != 3 {
					return
				}
				if inside {
					m.Stop()
					return
				}
				close(begun)
				<-hold
			})
			if !inside {
				within(t, begun, "the callback")
				m.Stop()
				select {
				case <-m.over:
					t.Error("Next returned while the callback was running")
				default:
				}
				close(hold)
			}
			within(t, m.over, "the end of the thread")
			if n := m.delivered.Load(); n != 4 {
				t.Errorf("%d callbacks, want 4", n)
			}
			if n := commits(cluster, "g", "t", 0); n != 4 {
				t.Errorf("committed %d, want 4", n)
			}
		})
	}
}

func TestConsumerStopsWhileIdle(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	for name, stop := range map[string]func(*module){"Stop": func(m *module) { m.Stop() }, "Close": func(m *module) { m.Close() }} {
		t.Run(name, func(t *testing.T) {
			m := listen(t, consuming(cluster.ListenAddrs()...), nil, nil, "t")
			within(t, m.assigned, "the assignment")
			stop(m)
			within(t, m.over, "the end of the thread")
			if info := cluster.GroupInfo("g"); len(info.Members) != 0 {
				t.Errorf("still a member: %+v", info)
			}
			if _, ok := m.Next(1); ok {
				t.Error("Next after the end gave something")
			}
		})
	}
}

// TestConsumerCloseInsideCallback closes between two calls of Next of the same thread.
func TestConsumerCloseInsideCallback(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 10)
	m := subscribe(t, consuming(cluster.ListenAddrs()...), nil, []string{"t"})
	m.run(func(one Message) {
		if one.Offset == 3 {
			m.Close()
		}
	})
	within(t, m.over, "the end of the thread")
	if n := commits(cluster, "g", "t", 0); n != 3 {
		t.Errorf("committed %d, want 3", n)
	}
}

func TestConsumerCloseWithoutBroker(t *testing.T) {
	for name, gone := range map[string]bool{"gone while consuming": true, "never there": false} {
		t.Run(name, func(t *testing.T) {
			cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"))
			if err != nil {
				t.Fatal(err)
			}
			defer cluster.Close()
			c := consuming(cluster.ListenAddrs()...)
			c.SocketTimeout, c.RequestTimeout = ever, ever
			if gone {
				write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 5)
			} else {
				cluster.Close()
			}
			log := kafkatest.NewLines()
			m := subscribe(t, c, log, []string{"t"}, inTime)
			m.run(nil)
			if gone {
				m.waitFor(5)
				cluster.Close()
			}
			log.WaitFor(t, host.Warning, "cannot be reached")
			begun := time.Now()
			m.Close()
			if took := time.Since(begun); took > kafkatest.Patience {
				t.Errorf("Close took %v", took)
			}
			within(t, m.over, "the end of the thread")
			if gone {
				log.WaitFor(t, host.Warning, "group g: offsets could not be committed: ")
			}
		})
	}
}

// TestConsumerCloseIsBounded closes while the brokers have stopped to answer.
func TestConsumerCloseIsBounded(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 5)
	m := subscribe(t, consuming(cluster.ListenAddrs()...), nil, []string{"t"}, inTime)
	m.run(nil)
	m.waitFor(5)
	hold, hung := make(chan struct{}), make(chan struct{}, 1)
	defer close(hold)
	cluster.ControlKey(int16(kmsg.OffsetCommit), func(kmsg.Request) (kmsg.Response, error, bool) {
		hung <- struct{}{}
		<-hold // blocks the whole cluster
		return nil, nil, false
	})
	closed := make(chan struct{})
	go func() {
		m.Close()
		close(closed)
	}()
	within(t, hung, "the last commit")
	within(t, closed, "the end of Close")
	within(t, m.over, "the end of the thread")
}

func TestConsumerManualCommit(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 1, 0, 10)
	c := consuming(cluster.ListenAddrs()...)
	c.AutoCommit, c.AutoCommitInterval = false, time.Millisecond
	m := subscribe(t, c, nil, []string{"t"})
	results := make(chan int64, 10)
	m.run(func(one Message) {
		switch one.Offset {
		case 3, 4:
			if err := m.Commit(t.Context(), one.Offset == 4); err != nil {
				t.Error(err)
			}
			results <- commits(cluster, "g", "t", 0)
		}
	})
	m.waitFor(10)
	asked := watchRequests(cluster, kmsg.OffsetCommit)
	select {
	case <-asked:
		t.Error("a commit that nobody asked for")
	case <-time.After(3 * minCommitInterval): // silence is expected for this time
	}
	if n := <-results; n != 3 {
		t.Errorf("inside the callback for 3: committed %d, want 3", n)
	}
	if n := <-results; n != 5 {
		t.Errorf("inside the callback for 4, with it: committed %d, want 5", n)
	}
	m.Close()
	if n := commits(cluster, "g", "t", 0); n != 5 {
		t.Errorf("after Close: committed %d, want 5: nothing is committed without being asked", n)
	}
	if err := m.Commit(t.Context(), false); err != ErrLeft {
		t.Errorf("Commit after Close: %v", err)
	}
	next := listen(t, c, nil, nil, "t")
	if got := next.waitFor(1); got[0].Offset != 5 {
		t.Errorf("the next member began at %d", got[0].Offset)
	}
	eventually(t, "Commit from another thread", func() bool {
		return next.Commit(t.Context(), false) == nil && commits(cluster, "g", "t", 0) == 10
	})
}

func TestConsumerPause(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "a", "b"))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "a", 1, 0, 100)
	m := subscribe(t, consuming(cluster.ListenAddrs()...), nil, []string{"a", "b"})
	m.run(func(one Message) {
		if one.Topic == "a" && one.Offset == 10 {
			m.Pause("a")
		}
	})
	m.waitFor(11)
	write(t, cl, "b", 1, 0, 10)
	got := m.waitFor(21)
	for _, one := range got[11:] {
		if one.Topic != "b" {
			t.Fatalf("a callback for a paused topic: offset %d", one.Offset)
		}
	}
	m.Pause()
	m.Resume("a") // still paused as a whole
	write(t, cl, "b", 1, 10, 11)
	if n := m.delivered.Load(); n != 21 {
		t.Errorf("%d callbacks while all is paused", n)
	}
	m.Resume()
	inOrder(t, m.waitFor(111))
}

// inOrder checks that no partition skips or repeats a record.
func inOrder(t *testing.T, got []Message) {
	t.Helper()
	next := map[string]int64{}
	for _, m := range got {
		place := fmt.Sprintf("%s/%d", m.Topic, m.Partition)
		if m.Offset != next[place] {
			t.Fatalf("%s: offset %d where %d was due", place, m.Offset, next[place])
		}
		next[place]++
	}
}

// TestConsumerBatchBounds checks the limits of a batch in number and bytes. A message above the limit forms
// its own batch.
func TestConsumerBatchBounds(t *testing.T) {
	c := &Consumer{paused: map[string]bool{"p": true}}
	for i, size := range []int{1, 1, 1, maxBatchBytes * 6 / 10, maxBatchBytes * 6 / 10, maxBatchBytes * 2, 1} {
		c.pending = append(c.pending, run{"t", 0, []*kgo.Record{{Offset: int64(i), Value: make([]byte, size)}}},
			run{"p", 0, []*kgo.Record{{}}})
	}
	for _, want := range []int{2, 2, 1, 1, 1, 0} {
		n := 0
		if batch := c.pick(2); batch != nil {
			n = batch.Len()
		}
		if n != want {
			t.Errorf("a batch of %d, want %d", n, want)
		}
	}
	if len(c.pending) != 7 {
		t.Errorf("%d paused messages kept, want 7", len(c.pending))
	}
}

// TestConsumerTakesBack checks that undelivered messages of a batch come again, in order.
func TestConsumerTakesBack(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(2, "t"))
	write(t, kafkatest.Writer(t, cluster), "t", 2, 0, 100)
	m := subscribe(t, consuming(cluster.ListenAddrs()...), nil, []string{"t"})
	var got []Message
	for len(got) < 200 {
		batch, ok := m.Next([]int{50, 7, 20}[len(got)%3]) // sometimes fewer than pending
		if !ok {
			t.Fatal("closed")
		}
		n := min(batch.Len(), len(got)%4+1)
		got = append(got, messages(batch)[:n]...)
		m.delivered.Add(uint64(n))
	}
	inOrder(t, got)
}

func TestConsumerRefusesBadConfiguration(t *testing.T) {
	for want, change := range map[string]func(*config.Connection) []string{
		"connection my-kafka: consuming needs group_id":                                                            func(c *config.Connection) []string { c.GroupID = ""; return []string{"t"} },
		"connection my-kafka: no topic to subscribe to":                                                            func(*config.Connection) []string { return nil },
		"connection my-kafka: topic ^( is not a regular expression: error parsing regexp: missing closing ): `^(`": func(*config.Connection) []string { return []string{"^("} },
	} {
		c := consuming("127.0.0.1:1")
		topics := change(c)
		if _, err := NewConsumer(c, topics, nil, nil, &module{}, NewDepartures()); err == nil || err.Error() != want {
			t.Errorf("%v, want %s", err, want)
		}
	}
}
