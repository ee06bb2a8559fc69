// Package kafkatest has the common parts of the tests of internal/kafka: embedded brokers, numbered records
// and their outcomes, a log with waits, failing networks, and certificates.
package kafkatest

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
	"reskafka/internal/record"
)

// Patience is a test's longest wait for an expected event; only a failing test reaches the limit.
const Patience = 15 * time.Second

// Connection returns a connection with the defaults of kafka.conf.
func Connection(brokers ...string) *config.Connection {
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

// Broker starts a cluster of one broker.
func Broker(t *testing.T, opts ...kfake.Opt) *kfake.Cluster {
	t.Helper()
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return cluster
}

// Outcomes collects the outcomes of records, and fails the test on a second outcome of a record.
type Outcomes struct {
	t    *testing.T
	want int
	Done chan struct{}

	Mtx   sync.Mutex
	Err   map[*record.Record]error
	Order []*record.Record
}

func ExpectOutcomes(t *testing.T, n int) *Outcomes {
	return &Outcomes{t: t, want: n, Done: make(chan struct{}), Err: map[*record.Record]error{}}
}

func (o *Outcomes) Add(r *record.Record, err error) {
	o.Mtx.Lock()
	defer o.Mtx.Unlock()
	if _, twice := o.Err[r]; twice {
		o.t.Errorf("a second outcome for %s: %v", r.Value, err)
	}
	o.Err[r] = err
	o.Order = append(o.Order, r)
	if len(o.Order) == o.want {
		close(o.Done)
	}
}

// Wait waits for all outcomes and returns them.
func (o *Outcomes) Wait() map[*record.Record]error {
	o.t.Helper()
	select {
	case <-o.Done:
	case <-time.After(Patience):
		o.Mtx.Lock()
		defer o.Mtx.Unlock()
		o.t.Fatalf("%d of %d outcomes: %v", len(o.Order), o.want, o.Err)
	}
	o.Mtx.Lock()
	defer o.Mtx.Unlock()
	return o.Err
}

// AllSent waits for all outcomes and fails unless every record was acknowledged.
func (o *Outcomes) AllSent() {
	o.t.Helper()
	for r, err := range o.Wait() {
		if err != nil {
			o.t.Fatalf("record %q: %v", r.Value, err)
		}
	}
}

// Nobody is an outbox.Gate and outbox.Observer without effect.
type Nobody struct{}

func (Nobody) Release(*record.Record) {}

func (Nobody) Panicked(any) {}

func (Nobody) Spooling(error) {}

func (Nobody) Dropped(_, _ string, _ int, _ error) {}

func (Nobody) Died(_, _ string, _ int, _ error) {}

// Records returns records for a producer.
func Records(records ...record.Record) []*record.Record {
	var all []*record.Record
	for i := range records {
		all = append(all, &records[i])
	}
	return all
}

// Producer is a produce.Producer.
type Producer interface {
	Send(records []*record.Record, deadline time.Time)
	AnswerTo(answered func(records []*record.Record, err error))
	Permanent(err error) (reason string, final bool)
	Close()
}

// Sender is a producer with a receiver for each record. Make a Sender with Over.
type Sender struct {
	Producer
	receivers sync.Map // *record.Record → func(*record.Record, error)
}

// Over returns a sender over a new producer.
func Over(p Producer) *Sender {
	s := &Sender{Producer: p}
	p.AnswerTo(func(records []*record.Record, err error) {
		for _, r := range records {
			receiver, ok := s.receivers.Load(r)
			if !ok {
				panic("the outcome of an unknown record")
			}
			receiver.(func(*record.Record, error))(r, err)
		}
	})
	return s
}

// Send sends records; done gets the outcome of each.
func (s *Sender) Send(records []*record.Record, deadline time.Time, done func(*record.Record, error)) {
	for _, r := range records {
		s.receivers.Store(r, done)
	}
	s.Producer.Send(records, deadline)
}

type sender interface {
	Send(records []*record.Record, deadline time.Time, done func(*record.Record, error))
}

// Send sends records and waits for their outcomes.
func Send(t *testing.T, p sender, records ...*record.Record) map[*record.Record]error {
	t.Helper()
	o := ExpectOutcomes(t, len(records))
	p.Send(records, time.Now().Add(time.Minute), o.Add)
	return o.Wait()
}

func SendAll(t *testing.T, p sender, records ...*record.Record) {
	t.Helper()
	o := ExpectOutcomes(t, len(records))
	p.Send(records, time.Now().Add(time.Minute), o.Add)
	o.AllSent()
}

func Numbered(topic string, from, to int) []*record.Record {
	return Records(Numbers(topic, from, to)...)
}

func Numbers(topic string, from, to int) []record.Record {
	var records []record.Record
	for i := from; i < to; i++ {
		records = append(records, record.Record{
			Topic: topic, Key: []byte("key"), Value: fmt.Appendf(nil, "%d", i), Accepted: time.Now(),
		})
	}
	return records
}

// Consume reads n records of a topic from the start.
func Consume(t *testing.T, topic string, n int, brokers []string, extra ...kgo.Opt) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{
		kgo.SeedBrokers(brokers...), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.MetadataMinAge(50 * time.Millisecond), kgo.DisableClientMetrics(),
	}, extra...)...)
	if err != nil {
		t.Fatal(err)
	}
	defer cl.Close()
	ctx, cancel := context.WithTimeout(context.Background(), Patience)
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

// Lines is a host.Logger that collects log lines.
type Lines struct {
	mtx   sync.Mutex
	All   []Line
	woken chan struct{}
}

type Line struct {
	Level    host.Level
	File     string
	Line     int
	Function string
	Text     string
}

func NewLines() *Lines { return &Lines{woken: make(chan struct{}, 1)} }

func (l *Lines) Log(level host.Level, file string, no int, function, text string) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.All = append(l.All, Line{level, file, no, function, text})
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// Above returns the lines of the level or higher.
func (l *Lines) Above(level host.Level) []Line {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	var some []Line
	for _, one := range l.All {
		if one.Level >= level {
			some = append(some, one)
		}
	}
	return some
}

// About returns the warnings that contain text. A client's first connection attempt may add other warnings at
// any time.
func (l *Lines) About(text string) []Line {
	return slices.DeleteFunc(l.Above(host.Warning), func(one Line) bool { return !strings.Contains(one.Text, text) })
}

// WaitFor waits for a line that contains text, and returns the line.
func (l *Lines) WaitFor(t *testing.T, level host.Level, text string) Line {
	t.Helper()
	limit := time.After(Patience)
	for {
		for _, one := range l.Above(level) {
			if strings.Contains(one.Text, text) {
				return one
			}
		}
		select {
		case <-l.woken:
		case <-limit:
			t.Fatalf("no line %q in %v", text, l.Above(level))
		}
	}
}

// WatchProduce calls see for every produce request at the broker, without other effects.
func WatchProduce(cluster *kfake.Cluster, see func(*kmsg.ProduceRequest)) {
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		see(req.(*kmsg.ProduceRequest))
		return nil, nil, false
	})
}

// Batches are the record batches of a produce request.
func Batches(t *testing.T, req *kmsg.ProduceRequest) []kmsg.RecordBatch {
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

func Await(t *testing.T, event <-chan struct{}) {
	t.Helper()
	select {
	case <-event:
	case <-time.After(Patience):
		t.Fatal("nothing happened")
	}
}

// None fails if there is an outcome already.
func (o *Outcomes) None() {
	o.t.Helper()
	o.Mtx.Lock()
	defer o.Mtx.Unlock()
	if len(o.Order) > 0 {
		o.t.Fatalf("outcomes: %v", o.Err)
	}
}

// Hang makes the broker leave requests of a kind unanswered until release is called. asked is closed by the first.
func Hang(t *testing.T, cluster *kfake.Cluster, key kmsg.Key) (release func(), asked <-chan struct{}) {
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

// Writer produces to any partition.
func Writer(t *testing.T, cluster *kfake.Cluster, opts ...kgo.Opt) *kgo.Client {
	t.Helper()
	cl, err := kgo.NewClient(append([]kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.RecordPartitioner(kgo.ManualPartitioner()),
		kgo.DisableClientMetrics(), kgo.ProducerLinger(0), kgo.MetadataMinAge(20 * time.Millisecond)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cl.Close)
	return cl
}

// Soon polls until so reports true, for conditions without a notification.
func Soon(t *testing.T, what string, so func() bool) {
	t.Helper()
	for limit := time.Now().Add(Patience); !so(); time.Sleep(time.Millisecond) {
		if time.Now().After(limit) {
			t.Fatalf("not so after %v: %s", Patience, what)
		}
	}
}
