// Package produce carries the outbox's records to the brokers. Batches, requests and their outcomes are ours, over
// connections of our own: records go from the outbox into the bytes of a batch and from there to the broker, nothing is allocated for each of
// them on the way, and it is known at any moment which records a broker may have. consistentRandom keeps keys on the partitions that
// librdkafka puts them on.
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
	"reskafka/internal/outbox"
)

// Producer is the producing client of one connection, an outbox.Transport. One goroutine at a time may call Send;
// everything else may be called from any.
//
// A record's way: Send puts it into the batch at the end of its partition's queue (outcome.go), once the topic's
// partitions are known (topic.go). Whenever its broker can take a request, the first batches of what is ready go
// in one (flight.go), and its answer ends them or has them sent again.
type Producer struct {
	client      *kgo.Client   // metadata and producer ids
	links       *client.Links // produce requests
	hooks       *client.Hooks
	log         host.Logger
	debug       *client.Logger
	status      *client.Status
	now         func() time.Time
	compression *compression                           // nil = none
	backoff     func(failures int) time.Duration       // between attempts to ask about topics that reached no broker
	retryPause  func(failures int) time.Duration       // between attempts to have a batch taken that is refused for now
	together    atomic.Pointer[func([]*outbox.Record)] // by AcknowledgeBy

	acks           int16
	idempotent     bool
	requestTimeout time.Duration
	sticky         time.Duration // how long records without a key stay with a partition
	batchRecords   int
	batchBytes     int
	requestBytes   int
	overhead       int  // what a request has beside its partitions, bytes
	limited        bool // retries is a limit
	retries        int
	unknownRetries int
	closeWait      time.Duration

	ctx     context.Context // done when Close begins
	cancel  context.CancelFunc
	askNow  chan struct{} // holds a token when a topic is to be asked about
	batches sync.Pool     // *recordBatch, without records

	mtx         sync.Mutex // guards what follows; never held over a call to the client or to whoever waits for an outcome
	topics      map[string]*topic
	nodes       map[int32]*node
	addresses   map[int32]address // of the brokers that the cluster lists
	unflushed   []*client.Link    // with requests that dispatch has queued
	pausing     []*partition      // that are to be tried again at their resume
	inside      int               // records without an outcome
	telling     int               // outcomes that are being told
	sends       uint64            // counts the calls of Send
	learning    bool
	identity    identity
	identifying bool
	identities  Identities // nil = none is stored
	last        Identity   // of an earlier process, to be continued; zero = there is none
	recalled    bool
	closed      bool
	timer       *time.Timer // calls tick
	wakeAt      time.Time   // when; zero = not at all

	flushes atomic.Bool // unflushed is not empty

	ended   chan struct{} // closed when Close has finished
	allTold chan struct{} // closed by tellAll: every outcome was told
	tellAll func()
	late    chan struct{} // closed by tooLate: Close is to wait no longer
	tooLate func()
}

var _ outbox.Transport = (*Producer)(nil)

// tuning is what a test sets differently.
type tuning struct {
	now            func() time.Time
	unknownRetries int
	closeWait      time.Duration
	resolver       *dns.Resolver
}

func defaultTuning() tuning {
	return tuning{now: time.Now, unknownRetries: unknownTopicRetries, closeWait: 900 * time.Millisecond}
}

// NewProducer returns a client of connection c. It reads the TLS files but never touches the network; connections are
// opened by the first Send, from goroutines of the client. An error is a sentence that names the option at fault.
// log may be nil, status too; a status is for this client alone.
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

// Window is how much of one topic the outbox may have inside the client: at most so many records, and so many bytes of keys and
// values. It is enough for batches to fill while others are on their way; a record larger than bytes goes alone.
func Window() (records, bytes int) { return windowRecords, windowBytes }

// AcknowledgeBy has the producer tell acknowledge of records that were acknowledged together, instead of the done of
// their Send. acknowledge must not keep the slice, and must not block. It is for all Sends from then on.
func (p *Producer) AcknowledgeBy(acknowledge func(records []*outbox.Record)) {
	p.together.Store(&acknowledge)
}

// sendPiece is how many records enter at once: while they do, nothing can be sent.
const sendPiece = 256

// Send implements outbox.Transport. It does not block.
//
// deadline is when the attempt ends, give or take a second; zero is never. With idempotence it is not kept for a
// record that may be on a broker: to give it up would risk the duplicate that idempotence rules out, so only the broker's answer
// or Close ends that.
func (p *Producer) Send(records []*outbox.Record, deadline time.Time, done func(*outbox.Record, error)) {
	if len(records) == 0 {
		return
	}
	if p.debug.Enabled("queue") {
		p.debug.Logf("queue", "%d record(s) from the queue of topic %s handed to the client", len(records), records[0].Topic)
	}
	for len(records) > 0 {
		n := min(len(records), sendPiece)
		p.deliver(p.enter(records[:n], deadline, done))
		records = records[n:]
	}
}

// enter takes records in. Those that may not enter have their outcome.
func (p *Producer) enter(records []*outbox.Record, deadline time.Time, done func(*outbox.Record, error)) (ended []outcome) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	p.sends++
	p.inside += len(records)
	var t *topic
	for _, r := range records {
		a := arrival{r, done, deadline, p.sends}
		switch {
		case p.closed, p.recalled:
			ended = append(ended, p.outcomeOfOne(a, ErrClosed))
			continue
		case r.Withdrawn():
			ended = append(ended, p.outcomeOfOne(a, errHeldBack))
			continue
		}
		if t == nil || t.name != r.Topic {
			t = p.topicFor(r.Topic)
		}
		if out, ok := p.place(t, a); !ok {
			ended = append(ended, out)
		}
	}
	p.dispatchAll()
	return ended
}

// topicFor is the topic of a record that is to be sent.
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

// Close implements outbox.Transport: it gives up what is under way and returns within about a second, whatever the
// brokers do. Every record has its outcome by then, ErrClosed for most. Calling it again waits for the first call.
func (p *Producer) Close() { p.CloseWithin(p.closeWait) }

// CloseWithin is Close with another limit, which also holds for a Close that is under way: 0 gives the client no time to
// end in order. What it still holds then is abandoned; its goroutines end by themselves.
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
	<-p.allTold // done calls that others have begun return soon
}

// giveUp takes back all that there is and ends what needs the lock. first = false: another call has done so.
func (p *Producer) giveUp() (left []outcome, first bool) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	if p.closed {
		return nil, false
	}
	for _, t := range p.topics {
		left = append(left, p.handBackArrivals(t, func(arrival) error { return ErrClosed })...)
		for _, part := range t.partitions {
			if part.flight != nil { // one that waits for its turn is not to leave with records that are handed back
				part.flight.state.CompareAndSwap(boarding, recalled)
			}
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
