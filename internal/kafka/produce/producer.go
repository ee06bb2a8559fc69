// Package produce sends the outbox's records to the brokers, with batches, requests and connections of its
// own. Records are copied from the outbox into the bytes of a batch and are written from there, without an
// allocation per record. The producer always knows the records possibly at a broker. consistentRandom maps
// keys to the same partitions as librdkafka.
package produce

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/dns"
	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/record"
)

// Producer is the producing client of one connection, an outbox.Transport. One goroutine at a time may call
// Send; every other method is safe for concurrent use.
//
// A record's path: Send puts the record into the last batch of the partition's queue (outcome.go), after the
// topic's partitions are known (topic.go). The first batches of ready queues go to a broker in one request
// (flight.go). The answer ends or repeats the batches.
type Producer struct {
	client      *kgo.Client   // metadata and producer ids
	links       *client.Links // produce requests
	hooks       *client.Hooks
	log         host.Logger
	debug       *client.Logger
	status      *client.Status
	now         func() time.Time
	compression *compression                              // nil = none
	backoff     func(failures int) time.Duration          // between failed requests for metadata
	retryPause  func(failures int) time.Duration          // between attempts with a batch refused for now
	receive     func(records []*record.Record, err error) // by AnswerTo

	acks           int16
	idempotent     bool
	requestTimeout time.Duration
	linger         time.Duration
	sticky         time.Duration // how long records without a key stay with a partition
	batchRecords   int
	batchBytes     int
	requestBytes   int
	overhead       int  // bytes of a request beside its partitions
	limited        bool // retries is a limit
	retries        int
	unknownRetries int
	closeWait      time.Duration

	ctx     context.Context // done when Close begins
	cancel  context.CancelFunc
	askNow  chan struct{} // holds a token when a topic is to be asked about
	batches sync.Pool     // *recordBatch, without records

	mtx          sync.Mutex // guards the next fields; not held during calls to the client or the receiver
	topics       map[string]*topic
	nodes        map[int32]*node
	addresses    map[int32]address // of the brokers in the cluster's list
	unflushed    []*client.Link    // with queued requests from dispatch
	pausing      []*partition      // due for another attempt at their resume
	inside       int               // records without an outcome
	telling      int               // running reports of outcomes
	learning     bool
	identity     identity
	identifying  bool
	spare        identity   // for the order of batches to a far broker, unused until one is known
	trusted      identity   // a batch with its numbers was acknowledged
	numbersAfter time.Time  // no numbers without idempotence before
	identities   Identities // nil = none is stored
	last         Identity   // of an earlier process, to be continued; zero = there is none
	recalled     bool
	closed       bool
	timer        *time.Timer          // calls tick
	wakeAt       time.Time            // when; zero = not at all
	expires      time.Time            // the earliest deadline; zero = none
	keys         [keyBits / 64]uint64 // of disjoint

	flushes atomic.Bool // unflushed is not empty
	distant atomic.Bool // see Far

	ended   chan struct{} // closed when Close has finished
	allTold chan struct{} // closed by tellAll: every outcome was told
	tellAll func()
	late    chan struct{} // closed by tooLate: Close is to wait no longer
	tooLate func()
}

// tuning has the values changed by tests.
type tuning struct {
	now            func() time.Time
	unknownRetries int
	closeWait      time.Duration
	resolver       *dns.Resolver
}

func defaultTuning() tuning {
	return tuning{now: time.Now, unknownRetries: unknownTopicRetries, closeWait: 900 * time.Millisecond}
}

// NewProducer returns a client of connection c. NewProducer reads the TLS files but never touches the
// network; the first Send opens connections, from goroutines of the client. An error is a sentence with the
// option at fault. log and status may be nil; a status is for this client alone.
func NewProducer(c *config.Connection, log host.Logger, status *client.Status) (*Producer, error) {
	return newProducer(c, log, status, defaultTuning())
}

func newProducer(c *config.Connection, log host.Logger, status *client.Status, t tuning) (*Producer, error) {
	if status == nil {
		status = &client.Status{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	retries, limited := retryLimit(c)
	p := &Producer{
		hooks:          client.NewHooks(c, "records wait", log, status, t.now),
		log:            log,
		debug:          client.NewLogger(c, log),
		status:         status,
		now:            t.now,
		backoff:        client.Backoff(c.ReconnectBackoff, c.ReconnectBackoffMax, rand.Float64),
		retryPause:     client.Backoff(retryBackoff, retryBackoffMax, rand.Float64),
		acks:           int16(c.Acks),
		idempotent:     c.Idempotence,
		requestTimeout: client.RequestTimeout(c),
		linger:         c.Linger,
		sticky:         2 * c.Linger, // librdkafka's sticky.partitioning.linger.ms
		batchRecords:   client.Clamp(c.BatchNumMessages, 1, maxBatchRecords),
		batchBytes:     batchMost(c),
		requestBytes:   c.RequestMaxBytes,
		overhead:       requestOverhead + len(client.ClientID(c.ClientID)),
		limited:        limited,
		retries:        retries,
		unknownRetries: t.unknownRetries,
		closeWait:      t.closeWait,
		ctx:            ctx,
		cancel:         cancel,
		askNow:         make(chan struct{}, 1),
		topics:         map[string]*topic{},
		nodes:          map[int32]*node{},
		ended:          make(chan struct{}),
		allTold:        make(chan struct{}),
		late:           make(chan struct{}),
	}
	p.tellAll = sync.OnceFunc(func() { close(p.allTold) })
	p.tooLate = sync.OnceFunc(func() { close(p.late) })
	p.timer = time.AfterFunc(time.Hour, p.tick)
	p.timer.Stop()
	if err := p.open(c, t); err != nil {
		cancel()
		return nil, fmt.Errorf("connection %s: %w", c.Name, err)
	}
	if len(c.ClientID) > client.MaxClientID {
		host.Logf(log, host.Warning, "connection %s: client_id is longer than %d bytes and was cut", c.Name, client.MaxClientID)
	}
	p.debug.Logf("generic", "client for producing made")
	return p, nil
}

func (p *Producer) open(c *config.Connection, t tuning) error {
	d, err := client.NewDialer(c, p.ctx, p.status, p.debug)
	if err != nil {
		return err
	}
	if t.resolver != nil {
		d.Resolver = t.resolver
	}
	d.Observer = p.hooks
	opts, err := client.Options(c, d, p.debug)
	if err != nil {
		return err
	}
	if p.compression, err = newCompression(c); err != nil {
		return err
	}
	opts = append(opts, producerOptions(c)...)
	if p.links, err = client.NewLinks(c, d, p.hooks, p.debug); err != nil {
		return err
	}
	p.links.Key, p.links.MinVersion, p.links.Unanswered, p.links.Closed = kmsg.Produce, minProduceVersion, p.acks == 0, p.disconnected
	p.client, err = kgo.NewClient(append(opts, kgo.WithHooks(p.hooks))...)
	if err != nil {
		return fmt.Errorf("setting up the client: %w", err)
	}
	return nil
}

// Window returns the outbox's limit of one topic's records inside the client: a number of records, and of
// bytes of keys and values. Batches fill within the limit while others are in flight; a record larger than
// bytes goes alone.
func Window() (records, bytes int) { return windowRecords, windowBytes }

// AnswerTo sets the receiver of outcomes, before the first Send. answered gets records of one topic with one
// outcome, nil = acknowledged, each record once. answered is called from any goroutine, must not keep the
// slice, and must not block.
func (p *Producer) AnswerTo(answered func(records []*record.Record, err error)) { p.receive = answered }

// sendPiece is the number of records per locked section: no request is sent during the section.
const sendPiece = 256

// Send implements outbox.Transport. Never blocks.
//
// The attempt ends at deadline, within about a second; zero is never. With idempotence a record possibly at a
// broker ends only by the broker's answer or by Close: giving up the record could mean a duplicate.
func (p *Producer) Send(records []*record.Record, deadline time.Time) {
	if len(records) == 0 {
		return
	}
	if p.debug.Enabled("queue") {
		p.debug.Logf("queue", "%d record(s) from the queue of topic %s handed to the client", len(records), records[0].Topic)
	}
	for len(records) > 0 {
		n := min(len(records), sendPiece)
		p.deliver(p.enter(records[:n], deadline))
		records = records[n:]
	}
}

// enter accepts records. The others get their outcome.
func (p *Producer) enter(records []*record.Record, deadline time.Time) (ended []outcome) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.inside += len(records)
	var t *topic
	a := arrival{deadline: deadline}
	for _, r := range records {
		a.record = r
		switch {
		case p.closed, p.recalled:
			ended = append(ended, p.outcomeOfOne(a, ErrClosed))
			continue
		case r.Held():
			ended = append(ended, p.outcomeOfOne(a, errHeldBack))
			continue
		}
		if t == nil || t.name != r.Topic {
			t = p.topicFor(r.Topic)
		}
		if !p.place(t, &a) {
			ended = append(ended, p.outcomeOfOne(a, errHeldBack))
		}
	}
	p.expireBy(deadline)
	p.dispatchAll()
	return ended
}

// topicFor returns the topic of a record, new if necessary.
func (p *Producer) topicFor(name string) *topic {
	t := p.topics[name]
	if t == nil {
		name = strings.Clone(name)
		t = &topic{name: name, partitioner: newConsistentRandom(p.sticky)}
		t.objected.Store(p.status.HasTrouble(t.about()))
		p.topics[name] = t
	}
	if !t.ask && (t.asked.IsZero() || p.now().Sub(t.asked) > metadataMaxAge) {
		p.wantMetadata(t)
	}
	return t
}

func (p *Producer) tick() {
	defer host.Guard(p.log, "the time of records")
	p.deliver(p.due())
}

// pause waits for so long, or until Close, or for an event; nil = there is none.
func (p *Producer) pause(wait time.Duration, event <-chan struct{}) {
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-event:
	case <-p.ctx.Done():
	}
}

// Close implements outbox.Transport: Close gives up all records and returns within about a second, in any
// state of the brokers. Every record has an outcome then, mostly ErrClosed. Another call waits for the first.
func (p *Producer) Close() { p.CloseWithin(p.closeWait) }

// CloseWithin is Close with another limit, also for a running Close: 0 gives the client no time for an
// orderly end. The rest of the client is abandoned; all goroutines end without further calls.
func (p *Producer) CloseWithin(limit time.Duration) {
	timer := time.AfterFunc(limit, p.tooLate)
	defer timer.Stop()
	left, first := p.giveUp()
	if !first {
		<-p.ended
		return
	}
	defer close(p.ended)

	p.debug.Logf("generic", "client for producing closes")
	p.hooks.Close()
	p.cancel()
	p.deliver(left)
	shut := make(chan struct{})
	go func() {
		p.client.Close()
		p.links.Wait()
		close(shut)
	}()
	select {
	case <-shut:
	case <-p.late:
	}
	<-p.allTold // reports of other goroutines return soon
}

// giveUp takes back all records and does the locked part of the end. first = false: another call has done so.
func (p *Producer) giveUp() (left []outcome, first bool) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if p.closed {
		return nil, false
	}
	for _, t := range p.topics {
		left = append(left, p.handBackArrivals(t, func(arrival) error { return ErrClosed })...)
		for _, part := range t.partitions {
			part.unsend(0) // a waiting flight must not start with records handed back
			left = append(left, p.handBack(part, 0, ErrClosed, ErrClosed)...)
		}
	}
	for _, n := range p.nodes {
		if n.link != nil {
			n.link.Close()
		}
	}
	p.closed = true
	if p.telling == 0 {
		p.tellAll()
	}
	p.timer.Stop()
	return left, true
}
