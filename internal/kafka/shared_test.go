package kafka

import (
	"context"
	"fmt"
	"math"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/outbox"
)

// patience is how long a test waits for what must happen; it is reached only by a failing one.
const patience = 15 * time.Second

// connection is a connection as the defaults of kafka.conf make it.
func connection(brokers ...string) *config.Connection {
	return &config.Connection{
		Name:                "my-kafka",
		Brokers:             brokers,
		ClientID:            "asterisk",
		RequestTimeout:      5 * time.Second,
		MessageTimeout:      300 * time.Second,
		SocketTimeout:       10 * time.Second,
		ConnectionsMaxIdle:  3 * time.Minute,
		ReconnectBackoff:    20 * time.Millisecond,
		ReconnectBackoffMax: 100 * time.Millisecond,
		SecurityProtocol:    "plaintext",
		MessageMaxBytes:     1000000,
		CompressionCodec:    "none",
		CompressionLevel:    -1,
		Linger:              5 * time.Millisecond,
		BatchNumMessages:    10000,
		BatchSize:           1000000,
		RequestMaxBytes:     1000000,
		QueueMaxMessages:    100000,
		QueueMaxKbytes:      1048576,
		Acks:                -1,
		Retries:             math.MaxInt32,
	}
}

// broker starts a cluster of one broker.
func fakeBroker(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// outcomes collects what became of records and fails the test when one has two outcomes.
type outcomes struct {
	t    *testing.T
	want int
	done chan struct{}

	mtx   sync.Mutex
	err   map[*outbox.Record]error
	order []*outbox.Record
}

func expectOutcomes(t *testing.T, n int) *outcomes {
	return &outcomes{t: t, want: n, done: make(chan struct{}), err: map[*outbox.Record]error{}}
}

func (o *outcomes) add(r *outbox.Record, err error) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	if _, twice := o.err[r]; twice {
		o.t.Errorf("a second outcome for %s: %v", r.Value, err)
	}
	o.err[r] = err
	o.order = append(o.order, r)
	if len(o.order) == o.want {
		close(o.done)
	}
}

// wait waits for all outcomes and returns them.
func (o *outcomes) wait() map[*outbox.Record]error {
	o.t.Helper()
	select {
	case <-o.done:
	case <-time.After(patience):
		o.mtx.Lock()
		defer o.mtx.Unlock()
		o.t.Fatalf("%d of %d outcomes: %v", len(o.order), o.want, o.err)
	}
	o.mtx.Lock()
	defer o.mtx.Unlock()
	return o.err
}

// allSent waits for all outcomes and fails unless every record was acknowledged.
func (o *outcomes) allSent() {
	o.t.Helper()
	for r, err := range o.wait() {
		if err != nil {
			o.t.Fatalf("record %q: %v", r.Value, err)
		}
	}
}

// mint is an outbox that gives records their place among others of a topic, which only an outbox can, and is content.
var mint = sync.OnceValue(func() *outbox.Outbox {
	return outbox.New(outbox.Settings{Timeout: time.Hour, WindowRecords: 1000}, content{}, nobody{}, nobody{})
})

type content struct{}

func (content) Send(records []*outbox.Record, _ time.Time, done func(*outbox.Record, error)) {
	for _, r := range records {
		done(r, nil)
	}
}

func (content) Permanent(error) (string, bool) { return "", false }

func (content) Close() {}

// nobody is an outbox.Gate and an outbox.Observer.
type nobody struct{}

func (nobody) Release(*outbox.Record) {}

func (nobody) Panicked(any) {}

func (nobody) Spooling(error) {}

func (nobody) Dropped(_, _ string, _ int, _ error) {}

func (nobody) Died(_, _ string, _ int, _ error) {}

// minted are records that can be sent without an outbox of the test's own.
func minted(records ...outbox.Record) []*outbox.Record {
	mint().Accept(records)
	var all []*outbox.Record
	for i := range records {
		all = append(all, &records[i])
	}
	return all
}

// sender is a producer.
type sender interface {
	Send(records []*outbox.Record, deadline time.Time, done func(*outbox.Record, error))
}

// send sends records and waits for their outcomes.
func send(t *testing.T, p sender, records ...*outbox.Record) map[*outbox.Record]error {
	t.Helper()
	o := expectOutcomes(t, len(records))
	p.Send(records, time.Now().Add(time.Minute), o.add)
	return o.wait()
}

func sendAll(t *testing.T, p sender, records ...*outbox.Record) {
	t.Helper()
	o := expectOutcomes(t, len(records))
	p.Send(records, time.Now().Add(time.Minute), o.add)
	o.allSent()
}

func numbered(topic string, from, to int) []*outbox.Record {
	return minted(numbers(topic, from, to)...)
}

func numbers(topic string, from, to int) []outbox.Record {
	var records []outbox.Record
	for i := from; i < to; i++ {
		records = append(records, outbox.Record{
			Topic: topic, Key: []byte("key"), Value: fmt.Appendf(nil, "%d", i), Accepted: time.Now(),
		})
	}
	return records
}

// consume reads n records of a topic from its start.
func consume(t *testing.T, topic string, n int, brokers []string, extra ...kgo.Opt) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.DisableClientMetrics(),
	}, extra...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	var records []*kgo.Record
	for len(records) < n {
		fetches := cl.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("%d of %d records: %v", len(records), n, err)
		}
		records = append(records, fetches.Records()...)
	}
	return records
}

// lines is a host.Logger that keeps what it is given.
type lines struct {
	mtx   sync.Mutex
	all   []line
	woken chan struct{}
}

type line struct {
	level    host.Level
	file     string
	line     int
	function string
	text     string
}

func newLines() *lines { return &lines{woken: make(chan struct{}, 1)} }

func (l *lines) Log(level host.Level, file string, no int, function, text string) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.all = append(l.all, line{level, file, no, function, text})
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// above are the lines of at least that level.
func (l *lines) above(level host.Level) []line {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	var some []line
	for _, one := range l.all {
		if one.level >= level {
			some = append(some, one)
		}
	}
	return some
}

// about are the warnings that contain text: a client's first attempt to connect may be among the others at any time.
func (l *lines) about(text string) []line {
	return slices.DeleteFunc(l.above(host.Warning), func(one line) bool { return !strings.Contains(one.text, text) })
}

// waitFor waits for a line that contains text and returns it.
func (l *lines) waitFor(t *testing.T, level host.Level, text string) line {
	t.Helper()
	limit := time.After(patience)
	for {
		for _, one := range l.above(level) {
			if strings.Contains(one.text, text) {
				return one
			}
		}
		select {
		case <-l.woken:
		case <-limit:
			t.Fatalf("no line %q in %v", text, l.above(level))
		}
	}
}

// watchProduce calls see with every produce request that reaches the broker, which then goes on as usual.
func watchProduce(cluster *kfake.Cluster, see func(*kmsg.ProduceRequest)) {
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		see(req.(*kmsg.ProduceRequest))
		return nil, nil, false
	})
}

// batches are the record batches of a produce request.
func batches(t *testing.T, req *kmsg.ProduceRequest) []kmsg.RecordBatch {
	t.Helper()
	var all []kmsg.RecordBatch
	for _, topic := range req.Topics {
		for _, partition := range topic.Partitions {
			var b kmsg.RecordBatch
			if err := b.ReadFrom(partition.Records); err != nil {
				t.Errorf("reading a batch: %v", err)
			}
			all = append(all, b)
		}
	}
	return all
}

func await(t *testing.T, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(patience):
		t.Fatal("nothing happened")
	}
}

// none fails if there is an outcome already.
func (o *outcomes) none() {
	o.t.Helper()
	o.mtx.Lock()
	defer o.mtx.Unlock()
	if len(o.order) > 0 {
		o.t.Fatalf("outcomes: %v", o.err)
	}
}

// hang makes the broker leave requests of a kind unanswered until release is called. asked is closed by the first.
func hang(t *testing.T, cluster *kfake.Cluster, key kmsg.Key) (release func(), asked <-chan struct{}) {
	t.Helper()
	gate, first := make(chan struct{}), make(chan struct{})
	release = sync.OnceFunc(func() { close(gate) })
	ask := sync.OnceFunc(func() { close(first) })
	t.Cleanup(release)
	cluster.ControlKey(int16(key), func(kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-gate:
			return nil, nil, false
		default:
		}
		ask()
		cluster.KeepControl()
		cluster.SleepControl(func() { <-gate })
		return nil, nil, false
	})
	return release, first
}

// writer produces to any partition.
func writer(t *testing.T, cluster *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableClientMetrics(), kgo.ProducerLinger(0), kgo.MetadataMinAge(20 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// soon waits until something is so that tells nobody.
func soon(t *testing.T, what string, so func() bool) {
	t.Helper()
	for limit := time.Now().Add(patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not so after %v: %s", patience, what)
		}
	}
}
