// Package options holds every option of kafka.conf to an effect that somebody outside can see: on the wire, in the
// broker's log or in how the engine behaves. Rows is the table; each row's observation is made twice, with the option's
// line in the file, when it must be seen, and without it, which is what ignoring the option would come to, when it must
// not. documentation/options-tested.md is made from the table.
//
// The engine runs in the test's own process and is driven as the module drives it: kafka.conf as Asterisk's loader lists
// it, frames as the stage hands them over, subscriptions as their threads ask for messages.
package options

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config/configtest"
	"reskafka/internal/engine"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/host"
	"reskafka/internal/kafka"
)

// patience is how long an observation waits for what must happen; it is reached only by a failing one.
const patience = 60 * time.Second

// unseen is the error of an observation that came to its end without the effect. Any other error, a broker that does not
// start or something that never comes, says nothing about the option.
type unseen struct{ text string }

func (e *unseen) Error() string { return e.text }

func unseenf(format string, args ...any) error { return &unseen{fmt.Sprintf(format, args...)} }

// World is what one observation happens in: a broker, what reaches it, and an engine with the connection "tested" and
// whatever others the observation adds.
type World struct {
	testing.TB
	ctx     context.Context
	Wire    *Wire
	Brokers string            // what the option brokers is
	Kafka   *kfake.Cluster    // nil for Apache Kafka
	Topic   string            // there, with one partition and no records
	vars    map[string]string // what $name stands for in a row's lines
	shown   <-chan string     // whose certificates the broker was shown

	general []string // lines of section [general]
	tested  []string // lines of section [tested], without brokers and type
	engine  *engine.Engine
	log     *lines
}

// Broker is what one observation is made with.
type Broker struct {
	Wire    *Wire // fresh
	Address string
	Kafka   *kfake.Cluster // nil for Apache Kafka

	// Logged waits for a line of the broker's log, of which it has written nothing about the observation before; nil
	// where there is no log.
	Logged func(ctx context.Context, pattern string) error
}

// MakeBroker gives a broker that has the topic, with one partition and no records. Options are for the embedded one.
type MakeBroker func(t testing.TB, topic string, options ...kfake.Opt) *Broker

// Fake starts an embedded broker.
func Fake(t testing.TB, topic string, options ...kfake.Opt) *Broker {
	t.Helper()
	wire := NewWire()
	listen := func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		return wire.Listen(l), nil
	}
	// Groups may have the session timeouts that tests have time for.
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.ListenFn(listen), kfake.SeedTopics(1, topic), kfake.GroupMinSessionTimeout(time.Second),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return &Broker{Wire: wire, Address: cluster.ListenAddrs()[0], Kafka: cluster}
}

// newWorld starts an engine that the test's end stops.
func newWorld(t testing.TB, broker *Broker, topic string) *World {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w := &World{TB: t, ctx: ctx, Wire: broker.Wire, Brokers: broker.Address, Kafka: broker.Kafka, Topic: topic, log: newLines()}
	system := host.System{EntityID: "00:11:22:33:44:55", Version: "22.5.0", Hostname: "host.example"}
	w.engine = engine.Start(system, w.log)
	t.Cleanup(func() {
		cancel()
		w.engine.Stop(0)
	})
	return w
}

// configure puts a configuration in force: the connection "tested", and other sections as they are given.
func (w *World) configure(others ...string) error {
	tested := append([]string{"[tested]"}, w.tested...)
	text := strings.Join(append([]string{"[general]"}, w.general...), "\n") + "\n" + strings.Join(tested, "\n") + "\n" +
		strings.Join(others, "\n")
	if err := w.engine.Configure(configtest.Read(os.Expand(text, w.value))); err != nil {
		return unseenf("the configuration is refused: %v", w.log.with("error: "))
	}
	return nil
}

// value is what $name stands for in a row.
func (w *World) value(name string) string {
	if name == "brokers" {
		return w.Brokers
	}
	return w.vars[name]
}

// section is a connection for comparison. Its client id is its name.
func section(name string, lines ...string) string {
	lines = append([]string{"[" + name + "]", "type = connection", "brokers = $brokers", "client_id = " + name}, lines...)
	return strings.Join(lines, "\n")
}

// Stage stands in for the C stage of a connection: it counts as stage/ does, and hands over at once.
type Stage struct {
	engine.Gate
	id   uint64
	name string
	w    *World
}

// produce configures, opens the producer of "tested" and hands it records with values.
func (w *World) produce(values ...string) (*Stage, error) {
	if err := w.configure(); err != nil {
		return nil, err
	}
	s, err := w.open("tested")
	if err == nil {
		s.put(values...)
	}
	return s, err
}

// delivered is produce, and waits until every record has its outcome.
func (w *World) delivered(values ...string) (*Stage, error) {
	s, err := w.produce(values...)
	if err == nil {
		_, err = s.settled()
	}
	return s, err
}

// open asks for a connection's producer.
func (w *World) open(name string) (*Stage, error) {
	s := &Stage{w: w, name: name}
	var err error
	s.id, err = w.engine.OpenProducer(name, &s.Gate)
	if err != nil {
		return nil, unseenf("opening the producer of %s: %v: %v", name, err, w.log.with("error: "))
	}
	return s, nil
}

// put stages records of the world's topic and hands them over.
func (s *Stage) put(values ...string) { s.putAt(time.Now(), values...) }

// putAt is put for records that were accepted at some time.
func (s *Stage) putAt(accepted time.Time, values ...string) {
	var slab []byte
	charge := int64(0)
	for _, value := range values {
		slab = frametest.Append(slab, frametest.Frame{AcceptedNS: accepted.UnixNano(), Topic: s.w.Topic, Key: []byte("key"),
			Value: []byte(value), Charge: uint32(len(value))})
		charge += int64(len(value))
	}
	s.HeldFrames.Add(int64(len(values)))
	s.HeldCharge.Add(charge)
	s.Admitted.Add(int64(len(values)))
	s.w.engine.Take(s.id, slab, false)
	s.Taken.Add(int64(len(values)))
}

// settled waits until everything has had its outcome and gives how many records were acknowledged.
func (s *Stage) settled() (acknowledged int, err error) {
	err = s.w.until("every record has its outcome", func() bool { return s.HeldFrames.Load() == 0 })
	status, _ := s.w.engine.Connection(s.name)
	return int(status.Totals.Acknowledged), err
}

// delivered waits until the records put so far are acknowledged; a broker that cannot be used is the effect's absence.
func (s *Stage) delivered() error {
	err := s.w.until("the record has its outcome or the broker fails", func() bool {
		return s.HeldFrames.Load() == 0 || len(s.w.log.with("connection tested: broker ")) > 0
	})
	if failed := s.w.log.with("connection tested: broker "); err == nil && len(failed) > 0 {
		return unseenf("%s", failed[0])
	}
	return err
}

// until waits until something is so that tells nobody.
func (w *World) until(what string, so func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-w.ctx.Done():
			return fmt.Errorf("waiting until %s: %w; the log has %q", what, w.ctx.Err(), w.log.with())
		}
	}
	return nil
}

// request waits for a connection's first request of a kind.
func (w *World) request(client string, key kmsg.Key) (Request, error) {
	return w.Wire.Await(w.ctx, func(r Request) bool { return r.Client == client && kmsg.Key(r.Key()) == key })
}

// progress is what a subscription's thread and the engine share.
type progress struct {
	mtx       sync.Mutex
	delivered uint64
	hurry     bool
}

func (p *progress) Delivered() uint64 {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	return p.delivered
}

func (p *progress) Hurry(set bool) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.hurry = set
}

// returned counts a callback and says whether to go on with the batch.
func (p *progress) returned() bool {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.delivered++
	return !p.hurry
}

// subscription is one with its thread.
type subscription struct {
	w     *World
	id    uint64
	ended chan struct{}
}

// subscribe consumes the world's topic on a connection, as the module's threads do, and calls back for each message.
func (w *World) subscribe(name string, callback func(kafka.Message)) (*subscription, error) {
	p := &progress{}
	id, err := w.engine.Subscribe(name, w.Topic, p)
	if err != nil {
		return nil, unseenf("subscribing on %s: %v: %v", name, err, w.log.with("error: "))
	}
	s := &subscription{w: w, id: id, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		defer w.engine.FreeSubscription(id)
		for {
			batch, ok := w.engine.Next(id)
			if !ok {
				return
			}
			for m := range batch.All() {
				callback(*m)
				if !p.returned() {
					break
				}
			}
		}
	}()
	w.Cleanup(s.end)
	return s, nil
}

// end unsubscribes and waits for the thread.
func (s *subscription) end() {
	s.w.engine.Unsubscribe(s.id)
	<-s.ended
}

// await waits for one value of a channel.
func await[T any](w *World, from <-chan T) (T, error) {
	select {
	case v := <-from:
		return v, nil
	case <-w.ctx.Done():
		var none T
		return none, fmt.Errorf("waiting: %w; the log has %q", w.ctx.Err(), w.log.with())
	}
}

// lines is a host.Logger that keeps what it is given.
type lines struct {
	mtx   sync.Mutex
	all   []string // level: text
	grown chan struct{}
}

func newLines() *lines { return &lines{grown: make(chan struct{})} }

func (l *lines) Log(level host.Level, _ string, _ int, _, text string) {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.all = append(l.all, fmt.Sprintf("%s: %s", []string{"debug", "notice", "warning", "error"}[level], text))
	close(l.grown)
	l.grown = make(chan struct{})
}

// with gives the lines that contain a text.
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

// awaitLine waits for the first line that contains a text.
func (w *World) awaitLine(part string) (string, error) {
	for {
		w.log.mtx.Lock()
		grown := w.log.grown
		w.log.mtx.Unlock()
		if found := w.log.with(part); len(found) > 0 {
			return found[0], nil
		}
		select {
		case <-grown:
		case <-w.ctx.Done():
			return "", fmt.Errorf("waiting for a line %q: %w; the log has %q", part, w.ctx.Err(), w.log.with())
		}
	}
}

// isUnseen says whether an observation ended without the effect.
func isUnseen(err error) bool {
	_, ok := errors.AsType[*unseen](err)
	return ok
}
