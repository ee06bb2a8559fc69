package engine

import (
	"context"
	"encoding/binary"
	"fmt"
	"hash/fnv"
	"net"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config/configtest"
	"reskafka/internal/console"
	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/host"
	"reskafka/internal/ingest"
	"reskafka/internal/kafka/consume"
	"reskafka/internal/metrics"
	"reskafka/test/account"
	"reskafka/test/held"
	"reskafka/test/port"
)

// busy is the allowed delay on a busy machine. The tested faults would take a minute or more,
// socket_timeout_ms for example.
const busy = 15 * time.Second

// inTime is an option with which a test message is sent however busy the machine is.
const inTime = "request_timeout_ms = 20000"

// patience is the limit of a wait; only a failing test reaches the limit.
const patience = 20 * time.Second

var theSystem = host.System{EntityID: "00:11:22:33:44:55", Name: "pbx", Version: "22.5.0", Hostname: "host.example"}

// broker is a cluster of one broker and counts connections.
type broker struct {
	*kfake.Cluster
	connects atomic.Int64
}

type countingListener struct {
	net.Listener
	count *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	conn, err := l.Listener.Accept()
	if err == nil {
		l.count.Add(1)
	}
	return conn, err
}

func newBroker(t testing.TB, opts ...kfake.Opt) *broker {
	t.Helper()
	b := &broker{}
	listen := func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		return countingListener{l, &b.connects}, err
	}
	cluster, err := kfake.NewCluster(append([]kfake.Opt{kfake.NumBrokers(1), kfake.ListenFn(listen)}, opts...)...)
	if err != nil {
		t.Fatal(err)
	}
	b.Cluster = cluster
	t.Cleanup(cluster.Close)
	return b
}

func (b *broker) address() string { return b.ListenAddrs()[0] }

// hold withholds the answers to produce requests until release is called; asked gets a value for each.
func (b *broker) hold(t *testing.T) (asked <-chan struct{}, release func()) {
	seen, gone := make(chan struct{}, 1000), make(chan struct{})
	b.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		b.KeepControl()
		seen <- struct{}{}
		b.SleepControl(func() { <-gone })
		return nil, nil, false
	})
	release = sync.OnceFunc(func() { close(gone) })
	t.Cleanup(release)
	return seen, release
}

// consumed returns all records of a topic after record n; more records fail the test.
func (b *broker) consumed(t *testing.T, topic string, n int) []*kgo.Record {
	t.Helper()
	cl, err := kgo.NewClient(kgo.SeedBrokers(b.ListenAddrs()...), kgo.ConsumeTopics(topic), kgo.DisableClientMetrics(),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.MetadataMinAge(50*time.Millisecond))
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
			t.Fatalf("%d of %d records of %s: %v", len(records), n, topic, err)
		}
		records = append(records, fetches.Records()...)
	}
	ends, err := kadm.NewClient(cl).ListEndOffsets(ctx, topic)
	if err != nil {
		t.Fatal(err)
	}
	total := 0
	ends.Each(func(o kadm.ListedOffset) { total += int(max(o.Offset, 0)) })
	if total != n || len(records) != n {
		t.Fatalf("%s holds %d records, %d read, want %d", topic, total, len(records), n)
	}
	return records
}

// refusedAddress is an address without a listener.
func refusedAddress(t testing.TB) string { return port.Refused(t) }

// silentAddress accepts connections and sends nothing.
func silentAddress(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	var conns []net.Conn
	done := make(chan struct{})
	go func() {
		defer close(done)
		for conn, err := l.Accept(); err == nil; conn, err = l.Accept() {
			conns = append(conns, conn)
		}
	}()
	t.Cleanup(func() {
		l.Close()
		<-done
		for _, conn := range conns {
			conn.Close()
		}
	})
	return l.Addr().String()
}

// section is a connection of kafka.conf with short retry times.
func section(name, brokers string, options ...string) string {
	lines := []string{"[" + name + "]", "type = connection", "brokers = " + brokers, "reconnect_backoff_ms = 20",
		"reconnect_backoff_max_ms = 100"}
	return strings.Join(append(lines, options...), "\n") + "\n"
}

// inMemory is the option with which nothing of a connection goes to disk.
const inMemory = "durability = memory"

// lines is a host.Logger and stores log lines.
type lines struct {
	on func(text string) // called with every line, if not nil

	mtx    sync.Mutex
	all    []string // level: text
	closed bool
	late   []string // lines after the close
	woken  chan struct{}
}

func newLines() *lines { return &lines{woken: make(chan struct{}, 1)} }

func (l *lines) Log(level host.Level, _ string, _ int, _, text string) {
	if l.on != nil {
		l.on(text)
	}
	l.mtx.Lock()
	defer l.mtx.Unlock()
	one := fmt.Sprintf("%s: %s", []string{"debug", "notice", "warning", "error"}[level], text)
	l.all = append(l.all, one)
	if l.closed {
		l.late = append(l.late, one)
	}
	select {
	case l.woken <- struct{}{}:
	default:
	}
}

// with returns the lines with all of the parts.
func (l *lines) with(parts ...string) []string {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	var some []string
next:
	for _, one := range l.all {
		for _, part := range parts {
			if !strings.Contains(one, part) {
				continue next
			}
		}
		some = append(some, one)
	}
	return some
}

// want fails unless exactly n lines contain all of the parts.
func (l *lines) want(t *testing.T, n int, parts ...string) {
	t.Helper()
	if got := l.with(parts...); len(got) != n {
		t.Errorf("%d lines with %q, want %d: %q\nof %q", len(got), parts, n, got, l.with())
	}
}

// rig is an engine under test.
type rig struct {
	*Engine
	t       testing.TB
	log     *lines
	numbers atomic.Uint64 // how many were given to subscriptions and queues of reports
}

// start starts an engine for the time of the test.
func start(t testing.TB, log *lines) *rig { return startIn(t, log, t.TempDir()) }

// startIn is start with the directory for spools of another engine.
func startIn(t testing.TB, log *lines, dir string) *rig {
	system := theSystem
	system.SpoolDir = dir
	r := &rig{Engine: Start(system, log), t: t, log: log}
	t.Cleanup(func() { r.Stop(0) })
	return r
}

// configure puts a valid configuration in force.
func (r *rig) configure(text ...string) {
	r.t.Helper()
	if err := r.Configure(configtest.Read(strings.Join(text, ""))); err != nil {
		r.t.Fatalf("%v: %q", err, r.log.with())
	}
}

// stage replaces a connection's stage: the counts are those of stage/, and slabs are handed over at once.
type stage struct {
	Gate
	HeldFrames, HeldCharge held.Count
	turn                   int // of put: whether the engine may use the slab in place

	id   uint64
	name string
	rig  *rig
}

func (r *rig) open(name string) *stage {
	r.t.Helper()
	s := r.stage(name)
	r.bind(s)
	return s
}

// stage returns a stage still unknown to the engine.
func (r *rig) stage(name string) *stage {
	s := &stage{name: name, rig: r, id: number(name)}
	s.HeldFrames.Of(&s.DoneFrames)
	s.HeldCharge.Of(&s.DoneCharge)
	return s
}

func (r *rig) bind(s *stage) {
	r.t.Helper()
	if err := r.OpenProducer(s.name, s.id, &s.Gate); err != nil {
		r.t.Fatal(err)
	}
}

// number is the gate's number of a connection, unique to the name.
func number(name string) uint64 {
	h := fnv.New32a()
	_, _ = h.Write([]byte(strings.ToLower(name)))
	return uint64(h.Sum32()%maxNumber) + 1
}

// subscribe calls Subscribe with an unused number.
func (r *rig) subscribe(name, topics string, progress consume.Progress) (uint64, error) {
	id := r.numbers.Add(1)
	return id, r.Subscribe(name, topics, id, progress)
}

// put stages frames and passes one slab to the engine. Every second slab is spoilt at once, like a temporary
// slab. The charge of a frame is the length of the value.
func (s *stage) put(frames ...frametest.Frame) {
	var slab []byte
	for _, f := range frames {
		f.Charge = uint32(len(f.Value))
		slab = frametest.Append(slab, f)
	}
	s.take(slab, len(frames), charge(frames))
}

// take passes a slab with the given count of frames.
func (s *stage) take(slab []byte, frames int, charge int64) {
	s.HeldFrames.Add(int64(frames))
	s.HeldCharge.Add(charge)
	s.Admitted.Add(int64(frames))
	s.turn++
	r := ingest.Range{Frames: slab, Stays: s.turn%2 == 0}
	s.rig.Take(s.id, r)
	if !r.Stays {
		spoil(slab)
	}
	s.Handed.Add(int64(frames))
}

// spoil overwrites a slab except the states of the frames.
func spoil(slab []byte) {
	for at := 0; len(slab)-at >= frame.HeaderSize; {
		size := int(binary.NativeEndian.Uint32(slab[at:]))
		for i := range slab[at : at+size] {
			if i < frame.HeaderState || i >= frame.HeaderCharge {
				slab[at+i] = 0xA5
			}
		}
		at += size
	}
}

func charge(frames []frametest.Frame) int64 {
	var sum int64
	for _, f := range frames {
		sum += int64(len(f.Value))
	}
	return sum
}

// numbered returns records of one key with the values from from to to-1.
func numbered(topic, key string, from, to int) []frametest.Frame {
	var frames []frametest.Frame
	for i := from; i < to; i++ {
		frames = append(frames, frametest.Frame{
			AcceptedNS: time.Now().UnixNano(), Topic: topic, Key: []byte(key), Value: fmt.Appendf(nil, "%d", i),
		})
	}
	return frames
}

// eventually waits for a state without a notice.
func eventually(t testing.TB, what string, so func() bool) {
	t.Helper()
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for limit := time.Now().Add(patience); !so(); <-tick.C {
		if time.Now().After(limit) {
			t.Fatalf("not so after %v: %s", patience, what)
		}
	}
}

// settled waits until every staged record has an outcome and its memory is free.
func (s *stage) settled() {
	s.rig.t.Helper()
	eventually(s.rig.t, "all is given back", func() bool { return s.HeldFrames.Load() == 0 && s.HeldCharge.Load() == 0 })
}

// shown is a connection's status with accounts.
type shown struct {
	console.ConnectionStatus
	Totals account.Account
	Topics map[string]account.Account
}

// status returns a connection's status and checks the account.
func (r *rig) status(name string) shown {
	r.t.Helper()
	s, ok := r.Connection(name)
	if !ok {
		r.t.Fatalf("no connection %s", name)
	}
	return balanced(r.t, s)
}

// balanced returns the accounts of a connection, and fails the test unless each adds up.
func balanced(t testing.TB, s console.ConnectionStatus) shown {
	t.Helper()
	all := shown{s, account.Of(s.Numbers), map[string]account.Account{}}
	for topic, v := range s.Numbers.Each(metrics.Topic) {
		all.Topics[topic] = account.Of(v)
		if !all.Topics[topic].Balanced() {
			t.Errorf("%s, topic %s: %+v does not add up", s.Name, topic, all.Topics[topic])
		}
	}
	if !all.Totals.Balanced() {
		t.Errorf("%s: %+v does not add up", s.Name, all.Totals)
	}
	return all
}

// onDisk returns the numbers of a connection's spool.
func (r *rig) onDisk(name string) *metrics.Values {
	r.t.Helper()
	s, ok := r.Spool(name)
	if !ok {
		r.t.Fatalf("no connection %s", name)
	}
	return s.Numbers
}

// dropped is the number of a connection's records dropped for a reason.
func dropped(c account.Account, reason string) uint64 { return c.Dropped[reason] }

var recordCount = regexp.MustCompile(`\b(\d+) (?:more )?record\(s\) `)

// records adds up the numbers of records in the lines with all of these parts.
func (l *lines) records(parts ...string) (sum int) {
	for _, line := range l.with(parts...) {
		if m := recordCount.FindStringSubmatch(line); m != nil {
			n, _ := strconv.Atoi(m[1])
			sum += n
		}
	}
	return sum
}

// swallowingAddress drops every attempt to connect, as a firewall does: the listener never accepts, and the
// queue is full.
func swallowingAddress(t *testing.T) string {
	t.Helper()
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_STREAM|syscall.SOCK_CLOEXEC, 0)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Close(fd) })
	if err := syscall.Bind(fd, &syscall.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Listen(fd, 0); err != nil {
		t.Fatal(err)
	}
	name, err := syscall.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	address := fmt.Sprintf("127.0.0.1:%d", name.(*syscall.SockaddrInet4).Port)
	for range 10 {
		conn, err := net.DialTimeout("tcp", address, 200*time.Millisecond)
		if err != nil {
			return address
		}
		t.Cleanup(func() { conn.Close() })
	}
	t.Fatal("the queue is not full")
	return ""
}
