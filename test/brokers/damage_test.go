package brokers

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/test/child"
	"reskafka/test/wire"
)

// TestDamage_Seeds_EverythingIsAccountedFor runs an engine in its own process, with producers of every kind,
// a consumer and administration, against a broker with damaged answers from a seed. It checks that the
// process lives, that its memory and goroutines are bounded, that an independent client accounts for every
// accepted record, and that everything works again with intact answers.
//
// RES_KAFKA_LONG=1 runs 20 seeds of 60 s, RES_KAFKA_DAMAGE="FIRST COUNT SECONDS" a range of seeds. With
// RES_KAFKA_DAMAGE_LOG a failing run shows the client library's log of the consumer.
func TestDamage_Seeds_EverythingIsAccountedFor(t *testing.T) {
	first, count, seconds, sample := seedsToRun(t)
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			damage(t, throttled(wire.Damage(seed, 16), seed, sample), time.Duration(seconds)*time.Second)
		})
	}
}

// TestDamage_Lies_EverythingIsAccountedFor is the same with decodable answers with an untrue field.
func TestDamage_Lies_EverythingIsAccountedFor(t *testing.T) {
	first, count, seconds, sample := seedsToRun(t)
	if sample {
		t.Skip("a lie about a topic is believed for half a minute: make test-long")
	}
	for seed := first; seed < first+count; seed++ {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			damage(t, throttled(wire.Lie(seed, 16), seed, sample), time.Duration(seconds)*time.Second)
		})
	}
}

// throttled returns a fault without long throttle times for most seeds of a long run: each lasts up to a
// minute, with little traffic. A pause ends with the connection, so the sample includes pauses.
func throttled(fault wire.Fault, seed uint64, sample bool) []wire.Fault {
	if sample || seed%5 == 0 {
		return []wire.Fault{fault}
	}
	return []wire.Fault{fault, wire.Unthrottled()}
}

// seedsToRun returns the seeds, their duration, and whether this is the sample of make test.
func seedsToRun(t *testing.T) (first, count uint64, seconds int, sample bool) {
	if own := os.Getenv("RES_KAFKA_DAMAGE"); own != "" {
		if _, err := fmt.Sscan(own, &first, &count, &seconds); err != nil {
			t.Fatalf("RES_KAFKA_DAMAGE: %v", err)
		}
		return first, count, seconds, false
	}
	if long() {
		return 1, 20, 60, false
	}
	return 1, 2, 2, true
}

// Limits of the engine's process under damage.
const (
	maxDamagedMemory = 256 << 20
	maxGoroutines    = 400
	healing          = 3 * time.Minute // for everything to work again; only a failing run reaches the limit
)

// raceDetector is set where the race detector multiplies memory.
var raceDetector bool

// outcome is the report of the engine's process at its end.
type outcome struct {
	Connections map[string]account
	Consumed    int
	Refused     uint64   // responses and batches
	Goroutines  int      // at the most
	Left        int      // goroutines after the engine's stop
	Memory      int      // largest resident size, bytes
	Late        []string // parts slow to work again
	Log         []string
	Failure     string
}

// account is where the records of a connection are.
type account struct {
	Put                                      int // records of this run; a retried dead letter is accepted again
	Accepted, Acknowledged, Dropped, Retried uint64
}

// producers are the connections of the engine under damage, with their options.
var producers = map[string][]string{
	"all":        {"acks = -1", "durability = memory"},
	"leader":     {"acks = 1", "durability = overflow", "compression_codec = gzip"},
	"none":       {"acks = 0", "durability = memory"},
	"idempotent": {"enable_idempotence = yes", "durability = memory", "compression_codec = snappy"},
	"disk":       {"acks = -1", "durability = disk", "compression_codec = lz4"},
	"strict":     {"enable_idempotence = yes", "durability = disk", "compression_codec = zstd"},
}

// damage is a run.
func damage(t *testing.T, faults []wire.Fault, duration time.Duration) {
	var damaging atomic.Bool
	damaging.Store(true)
	watched := wire.New()
	for _, fault := range faults {
		watched.Disturb(wire.Of("tested", wire.While(func(wire.Header) bool { return damaging.Load() }, fault)))
	}
	topics := []string{"feed"}
	for name := range producers {
		topics = append(topics, name)
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(2), kfake.SeedTopics(1, topics...), kfake.GroupMinSessionTimeout(time.Second),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			l, err := net.Listen(network, address)
			if err != nil {
				return nil, err
			}
			return watched.Listen(l), nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	defer cluster.Close()
	independent, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ClientID("independent"), kgo.ConsumeTopics(topics...))
	if err != nil {
		t.Fatal(err)
	}
	defer independent.Close()
	p := startDamaged(t, cluster.ListenAddrs())
	feeding, stopFeeding := context.WithCancel(t.Context())
	defer stopFeeding()
	go feed(feeding, independent)

	p.wait(t, duration)
	damaging.Store(false)
	watched.End(wire.FIN)
	p.tell(t, "sound")
	p.wait(t, healing)
	stopFeeding()
	got := p.outcome(t)
	got.check(t)
	t.Logf("%d consumed, %d answers refused, %d MiB, %d goroutines at the most, %d left; %+v",
		got.Consumed, got.Refused, got.Memory>>20, got.Goroutines, got.Left, got.Connections)
	for _, late := range got.Late {
		t.Logf("late: %s\n%s", late, strings.Join(got.Log, "\n"))
	}
	for name, a := range got.Connections {
		checkTopic(t, independent, cluster, name, a)
	}
}

// feed produces a record every 50 ms.
func feed(ctx context.Context, client *kgo.Client) {
	for i := 0; ctx.Err() == nil; i++ {
		client.Produce(ctx, &kgo.Record{Topic: "feed", Value: []byte(fmt.Sprintf("feed %06d", i))}, nil)
		select {
		case <-time.After(50 * time.Millisecond):
		case <-ctx.Done():
		}
	}
}

// check compares an outcome with the requirements of a run.
func (o *outcome) check(t *testing.T) {
	if o.Failure != "" {
		t.Errorf("%s; the last lines of the log:\n%s", o.Failure, strings.Join(o.Log, "\n"))
	}
	if o.Memory > maxDamagedMemory && !raceDetector {
		t.Errorf("%d MiB of memory", o.Memory>>20)
	}
	if o.Goroutines > maxGoroutines || o.Left > 20 {
		t.Errorf("%d goroutines at the most, %d after the stop", o.Goroutines, o.Left)
	}
	for name, a := range o.Connections {
		if a.Accepted != a.Acknowledged+a.Dropped || a.Accepted == 0 {
			t.Errorf("%s: %+v does not add up", name, a)
		}
	}
}

// checkTopic reads a topic to its end and compares it with the account: only dropped records are missing, and
// the first copy of each record is in order. With acks = 0 the broker's content is unknown.
func checkTopic(t *testing.T, client *kgo.Client, cluster *kfake.Cluster, name string, a account) {
	seen, repeats, last := map[uint64]bool{}, 0, -1
	info := cluster.PartitionInfo(name, 0)
	reader, err := kgo.NewClient(kgo.SeedBrokers(cluster.ListenAddrs()...), kgo.ClientID("independent"), kgo.ConsumeTopics(name),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		t.Fatal(err)
	}
	defer reader.Close()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for next := int64(0); next < info.HighWatermark; {
		fetches := reader.PollFetches(ctx)
		if err := fetches.Err0(); err != nil {
			t.Fatalf("reading %s: %v", name, err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			next = r.Offset + 1
			number, ok := strings.CutPrefix(string(r.Value), name+" ")
			n, err := strconv.Atoi(number)
			switch {
			case !ok || err != nil:
				t.Errorf("%s has the record %q", name, r.Value)
			case seen[uint64(n)]:
				repeats++
			case n < last && name != "none":
				t.Errorf("%s: record %d comes after record %d", name, n, last)
			}
			seen[uint64(n)], last = true, max(last, n)
		})
	}
	missing := uint64(a.Put - len(seen))
	if missing > a.Dropped && name != "none" || missing > 0 && (name == "disk" || name == "strict") {
		t.Errorf("%s: %d of %d records are not in the topic, %d were dropped", name, missing, a.Accepted, a.Dropped)
	}
	if repeats > 0 && (name == "idempotent" || name == "strict") {
		t.Logf("%s: %d repeats", name, repeats)
	}
}

// damaged is the process with the engine.
type damaged struct {
	cmd    *exec.Cmd
	input  *os.File
	report string
	output *strings.Builder
	ended  chan error
}

func startDamaged(t *testing.T, brokers []string) *damaged {
	t.Helper()
	read, write, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer read.Close()
	p := &damaged{
		cmd: exec.Command(os.Args[0], "-test.run=^TestDamagedEngine$", "-test.v", "-test.timeout=10m"), input: write,
		report: filepath.Join(t.TempDir(), "report"), output: &strings.Builder{}, ended: make(chan error, 1),
	}
	p.cmd.Env = append(os.Environ(), "RES_KAFKA_DAMAGED="+strings.Join(brokers, ","), "RES_KAFKA_REPORT="+p.report)
	p.cmd.Stdin, p.cmd.Stdout, p.cmd.Stderr = read, p.output, p.output
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := child.Start(p.cmd, func(err error) { p.ended <- err }); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { write.Close() })
	return p
}

// wait lets the process run for a time. An earlier end must be a success with a report.
func (p *damaged) wait(t *testing.T, d time.Duration) {
	t.Helper()
	select {
	case err := <-p.ended:
		p.ended <- nil
		if _, missing := os.Stat(p.report); err != nil || missing != nil {
			t.Fatalf("the engine's process ended: %v\n%s", err, p.output)
		}
	case <-time.After(d):
		if d == healing {
			_ = p.cmd.Process.Signal(syscall.SIGQUIT)
			<-p.ended
			t.Fatalf("the engine's process does not come to its end:\n%s", p.output)
		}
	}
}

func (p *damaged) tell(t *testing.T, word string) {
	t.Helper()
	if _, err := fmt.Fprintln(p.input, word); err != nil {
		t.Fatal(err)
	}
}

func (p *damaged) outcome(t *testing.T) (o outcome) {
	t.Helper()
	text, err := os.ReadFile(p.report)
	if err == nil {
		err = json.Unmarshal(text, &o)
	}
	if err != nil {
		t.Fatal(err)
	}
	return o
}
