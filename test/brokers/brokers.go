// Package brokers is the bench of bad brokers: a table of quirks, each with a broker's behaviour, the
// expected outcome and the expected log.
//
// A quirk is a Row. Rows are in files of their own, rows_<area>_test.go, which add rows in an init function;
// TestBrokers runs all rows in parallel:
//
//	func init() { rows = append(rows, hostileRows...) }
//
//	var hostileRows = []Row{{
//		Name:    "a throttle time of 24 days is cut",
//		Broker:  []wire.Fault{wire.Change(func(r *kmsg.ProduceResponse) { r.ThrottleMillis = math.MaxInt32 })},
//		Conf:    []string{"acks = all"},
//		Records: 10,
//		Log:     []string{"asks for a pause of"},
//		Shown:   []string{"Throttled:"},
//	}}
//
// A row starts an embedded broker with faults on its connections, and an engine in the test's own process
// with the connection "tested". Without Steps, a row produces Records, consumes them with Consume set, and
// checks with an undisturbed client that each was acknowledged and is in the topic once and in order. The row
// then compares the log: every text of Log must appear, and no other WARNING or ERROR.
//
// The building blocks:
//
//   - wire.Fault: SizeLimit, IdleLimit (FIN, RST, Silence), Delay, Damage (with a seed), Rewrite (bytes of an
//     answer), Change (fields of an answer); Of, Key, While and Times limit a fault to a client, a kind of
//     request, a condition, a number of answers. Faults can also be set later: b.Wire.Disturb.
//   - Row.Kafka: options of the embedded broker (more brokers, partitions, SASL), and b.Kafka in Steps for
//     custom scripts (ControlKey, MoveTopicPartition, RemoveNode).
//   - Row.TLS: a listener with TLS; faults see the decrypted bytes.
//   - Row.Steps: replaces the produce and consume described above.
package brokers

import (
	"cmp"
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/console"
	"reskafka/internal/kafka/consume"
	"reskafka/test/wire"
	"reskafka/test/world"
)

// patience is a row's longest wait; only a failing row reaches the limit.
const patience = 60 * time.Second

// Row is a quirk of a broker, a service or a network.
type Row struct {
	Name    string
	Finding string // for example "C4"

	Broker     []wire.Fault // behaviour towards the client id "tested" only
	Kafka      []kfake.Opt  // of the embedded broker
	Partitions int32        // of the topic; 0 = 1
	TLS        *tls.Config  // of the listener; nil = plaintext
	Conf       []string     // lines of the connection; @DIR@ is the folder of Files
	Client     []kgo.Opt    // of the undisturbed client: its access
	Host       string       // the broker's name in kafka.conf; empty = its address

	Files map[string][]byte // named by the connection's options

	Patience time.Duration // how long the row may take; 0 = patience

	Records int                // to produce
	Consume bool               // consume the records too
	Steps   func(*Bench) error // instead of the two above
	After   func(*Bench) error // further checks, with the engine still there
	Log     []string           // texts required in the log; each covers any number of lines
	Shown   []string           // texts required in `kafka show connection tested` at the end
}

// Bench is the environment of a row: an embedded broker and an engine.
type Bench struct {
	*world.World
	Wire   *wire.Wire
	Kafka  *kfake.Cluster
	Client *kgo.Client // an undisturbed client of the same broker
}

// Start starts a broker with the row's faults and an engine with the connection "tested".
func (r *Row) Start(t testing.TB) *Bench {
	t.Helper()
	watched := wire.New()
	for _, fault := range r.Broker {
		watched.Disturb(wire.Of("tested", fault))
	}
	topic := "topic"
	listen := func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err == nil && r.TLS != nil {
			l = tls.NewListener(l, r.TLS)
		}
		if err != nil {
			return nil, err
		}
		return watched.Listen(l), nil
	}
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.ListenFn(listen), kfake.SeedTopics(max(r.Partitions, 1), topic),
		kfake.GroupMinSessionTimeout(time.Second),
	}, r.Kafka...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	b := &Bench{World: world.New(t, topic, t.TempDir(), cmp.Or(r.Patience, patience)), Wire: watched, Kafka: cluster}
	options := []kgo.Opt{kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ClientID("independent")}
	options = append(options, r.Client...)
	if r.TLS != nil {
		options = append(options, kgo.DialTLSConfig(&tls.Config{InsecureSkipVerify: true}))
	}
	if b.Client, err = kgo.NewClient(options...); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(b.Client.Close)
	brokers := strings.Join(cluster.ListenAddrs(), ",")
	if r.Host != "" {
		brokers = r.Host + brokers[strings.LastIndex(brokers, ":"):]
	}
	conf := append([]string{
		"[tested]", "type = connection", "client_id = tested", "brokers = " + brokers,
		"group_id = group", "auto_offset_reset = earliest", "reconnect_backoff_ms = 20", "reconnect_backoff_max_ms = 200",
	}, r.Conf...)
	dir := t.TempDir()
	for name, text := range r.Files {
		if err := os.WriteFile(filepath.Join(dir, name), text, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if err := b.Configure(strings.ReplaceAll(strings.Join(conf, "\n")+"\n", "@DIR@", dir)); err != nil {
		t.Fatal(err)
	}
	return b
}

// Check runs the row.
func (r *Row) Check(t *testing.T) {
	b := r.Start(t)
	steps := r.Steps
	if steps == nil {
		steps = r.produceAndConsume
	}
	if err := steps(b); err != nil {
		t.Fatal(err)
	}
	for _, text := range r.Log {
		if _, err := b.Log.Await(b.Ctx, text); err != nil {
			t.Error(err)
		}
	}
	if r.After != nil {
		if err := r.After(b); err != nil {
			t.Error(err)
		}
	}
	shown := b.Show("tested")
	for _, text := range r.Shown {
		if !strings.Contains(shown, text) {
			t.Errorf("kafka show connection has no %q:\n%s", text, shown)
		}
	}
	for _, line := range b.Log.With() {
		loud := strings.HasPrefix(line, "warning: ") || strings.HasPrefix(line, "error: ")
		if loud && !slices.ContainsFunc(r.Log, func(text string) bool { return strings.Contains(line, text) }) {
			t.Errorf("an unexpected line: %s", line)
		}
	}
}

// Show is the answer of `kafka show connection`.
func (b *Bench) Show(name string) string { return b.Command("kafka", "show", "connection", name) }

// Command is the answer of a CLI command.
func (b *Bench) Command(words ...string) string {
	typed := strings.Join(words, " ")
	for _, c := range console.Commands {
		if typed == c.Words || strings.HasPrefix(typed, c.Words+" ") {
			text, _ := c.Run(b.Engine, words)
			return text
		}
	}
	b.Fatalf("there is no command %s", typed)
	return ""
}

// Values returns n distinct values.
func Values(n int) []string {
	values := make([]string, n)
	for i := range values {
		values[i] = fmt.Sprintf("record %06d", i)
	}
	return values
}

func (r *Row) produceAndConsume(b *Bench) error {
	values, received := Values(r.Records), make(chan string, r.Records)
	if r.Consume {
		if _, err := b.Subscribe("tested", func(m consume.Message) { received <- string(m.Value) }); err != nil {
			return err
		}
	}
	if r.Records > 0 {
		p, err := b.Open("tested")
		if err != nil {
			return err
		}
		p.Put(values...)
		if n, err := p.Settled(); err != nil || n != r.Records {
			return fmt.Errorf("%d of %d records acknowledged: %v", n, r.Records, err)
		}
		if got, err := b.Read(len(values)); err != nil || !slices.Equal(got, values) {
			return fmt.Errorf("the topic has %d records, not %d in order: %v", len(got), len(values), err)
		}
	}
	for i := range values {
		if !r.Consume {
			break
		}
		if got, err := world.Await(b.World, received); err != nil || got != values[i] {
			return fmt.Errorf("message %d is %q, want %q: %v", i, got, values[i], err)
		}
	}
	return nil
}

// Read returns the values in the world's topic, partition by partition, from the undisturbed client. It waits
// for n values.
func (b *Bench) Read(n int) ([]string, error) {
	b.Client.AddConsumeTopics(b.Topic)
	ctx, cancel := context.WithTimeout(b.Ctx, patience/2)
	defer cancel()
	parts := map[int32][]string{}
	for count := 0; count < n; {
		fetches := b.Client.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			return nil, fmt.Errorf("after %d of %d records: %w", count, n, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			parts[r.Partition] = append(parts[r.Partition], string(r.Value))
			count++
		})
	}
	var all []string
	for partition := range int32(len(parts)) {
		all = append(all, parts[partition]...)
	}
	return all, nil
}
