// Package world runs an engine in the test's process, with the calls of the module: kafka.conf in the form of
// Asterisk's loader, frames in the form of the stage, and subscriptions with the requests of their threads.
package world

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/config/configtest"
	"reskafka/internal/engine"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/host"
	"reskafka/internal/ingest"
	"reskafka/internal/kafka/consume"
	"reskafka/internal/metrics"
	"reskafka/test/held"
)

// World is an engine with its log.
type World struct {
	testing.TB
	Ctx    context.Context
	Engine *engine.Engine
	Log    *Log
	Topic  string // of producers and subscriptions

	numbers *numbers
}

// numbers are the numbers assigned by the module.
type numbers struct {
	mtx        sync.Mutex
	producers  map[string]uint64 // by connection name
	subscribed uint64            // the latest
}

// New starts an engine, stopped at the test's end. No wait is longer than patience. spool is the default of
// spool_dir; without one, records stay in memory unless configured otherwise.
func New(t testing.TB, topic, spool string, patience time.Duration) *World {
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	w := &World{TB: t, Ctx: ctx, Topic: topic, Log: NewLog(), numbers: &numbers{producers: map[string]uint64{}}}
	system := host.System{EntityID: "00:11:22:33:44:55", Version: "22.5.0", Hostname: "host.example", SpoolDir: spool}
	w.Engine = engine.Start(system, w.Log)
	t.Cleanup(func() {
		cancel()
		w.Engine.Stop(0)
	})
	return w
}

// Configure puts the text of a kafka.conf in force.
func (w *World) Configure(text string) error {
	if err := w.Engine.Configure(configtest.Read(text)); err != nil {
		return fmt.Errorf("the configuration is refused: %v", w.Log.With("error: "))
	}
	return nil
}

// Producer replaces the C stage of a connection: it counts like stage/, and hands over at once.
type Producer struct {
	engine.Gate
	HeldFrames held.Count
	Key        func(value string) []byte // of a record; nil = all have the same
	Ahead      time.Duration             // offset of the clock of acceptance
	id         uint64
	name       string
	w          *World
}

// Open opens a connection's producer.
func (w *World) Open(name string) (*Producer, error) {
	p := &Producer{w: w, name: name, id: w.numbers.producer(name)}
	p.HeldFrames.Of(&p.DoneFrames)
	if err := w.Engine.OpenProducer(name, p.id, &p.Gate); err != nil {
		return nil, fmt.Errorf("opening the producer of %s: %v: %v", name, err, w.Log.With("error: "))
	}
	return p, nil
}

// producer returns the number of a connection's producer, which is the same each time.
func (n *numbers) producer(name string) uint64 {
	n.mtx.Lock()
	defer n.mtx.Unlock()
	key := config.NameKey(name)
	if n.producers[key] == 0 {
		n.producers[key] = uint64(len(n.producers) + 1)
	}
	return n.producers[key]
}

// subscription returns an unused number of a subscription.
func (n *numbers) subscription() uint64 {
	n.mtx.Lock()
	defer n.mtx.Unlock()
	n.subscribed++
	return n.subscribed
}

// ID is the producer's number in the engine.
func (p *Producer) ID() uint64 { return p.id }

// Put stages records of the world's topic and hands them over.
func (p *Producer) Put(values ...string) {
	frames := make([]frametest.Frame, len(values))
	for i, value := range values {
		key := []byte("key")
		if p.Key != nil {
			key = p.Key(value)
		}
		frames[i] = frametest.Frame{Topic: p.w.Topic, Key: key, Value: []byte(value)}
	}
	p.PutFrames(frames...)
}

// PutFrames stages frames in one slab and hands them over. It sets their time and charge.
func (p *Producer) PutFrames(frames ...frametest.Frame) {
	var slab []byte
	for _, f := range frames {
		f.AcceptedNS, f.Charge = time.Now().Add(p.Ahead).UnixNano(), uint32(len(f.Value))
		slab = frametest.Append(slab, f)
	}
	p.HeldFrames.Add(int64(len(frames)))
	p.Admitted.Add(int64(len(frames)))
	p.w.Engine.Take(p.id, ingest.Range{Frames: slab, Stays: true})
	p.Handed.Add(int64(len(frames)))
}

// Settled waits until every record has an outcome and returns the number of acknowledged records.
func (p *Producer) Settled() (acknowledged int, err error) {
	err = p.w.Until("every record has its outcome", func() bool { return p.HeldFrames.Load() == 0 })
	status, _ := p.w.Engine.Connection(p.name)
	return int(status.Numbers.Sum(metrics.RecordsAcknowledged)), err
}

// Until polls for a state without a notification.
func (w *World) Until(what string, so func() bool) error {
	tick := time.NewTicker(time.Millisecond)
	defer tick.Stop()
	for !so() {
		select {
		case <-tick.C:
		case <-w.Ctx.Done():
			return fmt.Errorf("waiting until %s: %w; the log has %q", what, w.Ctx.Err(), w.Log.With())
		}
	}
	return nil
}

// progress is the memory shared by a subscription's thread and the engine.
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

// returned counts a callback and reports whether to go on with the batch.
func (p *progress) returned() bool {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.delivered++
	return !p.hurry
}

// Subscription is a subscription with its thread.
type Subscription struct {
	w     *World
	id    uint64
	ended chan struct{}
}

// Subscribe consumes the world's topic on a connection, as the module's threads do, and calls back for each message.
func (w *World) Subscribe(name string, callback func(consume.Message)) (*Subscription, error) {
	p := &progress{}
	id := w.numbers.subscription()
	if err := w.Engine.Subscribe(name, w.Topic, id, p); err != nil {
		return nil, fmt.Errorf("subscribing on %s: %v: %v", name, err, w.Log.With("error: "))
	}
	s := &Subscription{w: w, id: id, ended: make(chan struct{})}
	go func() {
		defer close(s.ended)
		defer w.Engine.FreeSubscription(id)
		for {
			batch, ok := w.Engine.Next(id)
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
	w.Cleanup(s.End)
	return s, nil
}

// Pause pauses or resumes all messages.
func (s *Subscription) Pause(on bool) error { return s.w.Engine.Pause(s.id, "", on) }

// End unsubscribes and waits for the thread.
func (s *Subscription) End() {
	s.w.Engine.Unsubscribe(s.id)
	<-s.ended
}

// Await waits for a value of a channel.
func Await[T any](w *World, from <-chan T) (T, error) {
	select {
	case v := <-from:
		return v, nil
	case <-w.Ctx.Done():
		var none T
		return none, fmt.Errorf("waiting: %w; the log has %q", w.Ctx.Err(), w.Log.With())
	}
}
