// Package kafka is the engine's side of the Kafka protocol: the only package that knows the client library, franz-go.
//
// Producer carries the outbox's records: order keeps them from overtaking one that failed, trials find the one that made
// a broker refuse a batch. hooks and Status tell how the brokers are doing, in the words of cause. ConsistentRandom keeps
// keys on the partitions librdkafka puts them on, and options.go says what each option of a connection becomes.
package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/outbox"
)

// Producer is the producing client of one connection, an outbox.Transport. One goroutine at a time may call Send;
// everything else may be called from any.
type Producer struct {
	client  *kgo.Client
	hooks   *hooks
	log     *logger
	status  *Status
	now     func() time.Time
	promise func(*kgo.Record, error) // settle, made a value once

	answered      bool // brokers say where records stand: not with acks = 0
	retries       int  // of records that came back refused for now, see retryLimits; math.MaxInt32 = without limit
	cancellable   bool // a record may be given up while under way: not with idempotence, see Send
	windowRecords int
	windowBytes   int
	batchBytes    int // that fit into one batch of the client's, see weight; 0 = not known
	closeWait     time.Duration
	trialWait     time.Duration

	ctx     context.Context // done when Close begins
	cancel  context.CancelFunc
	life    context.Context // done when Close ends
	endLife context.CancelFunc

	// Send's alone: the deadline of the last one as a context, for the next one of the same second, and the topics'
	// orders.
	deadline   context.Context
	deadlineAt time.Time
	orders     map[string]*order

	trials trials
	runs   runs
	used   sync.Pool     // *[pieceRecords]attempt, see reuse
	purges atomic.Uint32 // how many topics the client has been made to forget

	recalled atomic.Bool // by Recall

	mtx      sync.Mutex
	live     map[*batch]struct{} // with records that have no outcome yet
	purging  map[string]bool     // topics being forgotten, see forget
	underway underway
	closed   bool
	idle     chan struct{} // closed once closed and live is empty
	ended    chan struct{} // closed when Close has finished
	late     chan struct{} // closed by tooLate: Close is to wait no longer
	tooLate  func()
}

var _ outbox.Transport = (*Producer)(nil)

// tuning is what a test sets differently.
type tuning struct {
	now            func() time.Time
	linger         time.Duration // of the client itself: the stage lingers already, and once is enough
	unknownRetries int
	closeWait      time.Duration
	resolver       *net.Resolver // nil = the system's
	extra          []kgo.Opt
}

func defaultTuning() tuning {
	return tuning{now: time.Now, unknownRetries: unknownTopicRetries, closeWait: 900 * time.Millisecond}
}

// NewProducer returns a client of connection c. It reads the TLS files but never touches the network; connections are
// opened by the first Send, from goroutines of the client. An error is a sentence that names the option at fault.
// log may be nil, status too; a status is for this client alone.
func NewProducer(c *config.Connection, log host.Logger, status *Status) (*Producer, error) {
	return newProducer(c, log, status, defaultTuning())
}

func newProducer(c *config.Connection, log host.Logger, status *Status, t tuning) (*Producer, error) {
	if status == nil {
		status = &Status{}
	}
	ctx, cancel := context.WithCancel(context.Background())
	life, endLife := context.WithCancel(context.Background())
	p := &Producer{
		hooks:       newHooks(c, "records wait", log, status, t.now),
		log:         newLogger(c, log),
		status:      status,
		now:         t.now,
		answered:    c.Acks != 0,
		cancellable: !c.Idempotence,
		closeWait:   t.closeWait,
		trialWait:   c.RequestTimeout,
		ctx:         ctx,
		cancel:      cancel,
		life:        life,
		endLife:     endLife,
		orders:      map[string]*order{},
		live:        map[*batch]struct{}{},
		purging:     map[string]bool{},
		idle:        make(chan struct{}),
		ended:       make(chan struct{}),
		late:        make(chan struct{}),
	}
	p.tooLate = sync.OnceFunc(func() { close(p.late) })
	p.promise = p.settle
	p.windowRecords, p.windowBytes = window(c)
	if !c.Idempotence { // with it several batches are under way, of which kgo asks for the first alone
		p.batchBytes = batchMaxBytes(c) - batchOverheadBytes
	}
	_, p.retries = retryLimits(c)
	if err := p.open(c, t); err != nil {
		cancel()
		endLife()
		return nil, fmt.Errorf("connection %s: %w", c.Name, err)
	}
	if len(c.ClientID) > maxClientID {
		host.Logf(log, host.Warning, "connection %s: client_id is longer than %d bytes and was cut", c.Name, maxClientID)
	}
	p.log.tell("generic", "client for producing made")
	return p, nil
}

func (p *Producer) open(c *config.Connection, t tuning) error {
	d, err := newDialer(c, p.ctx, p.log)
	if err != nil {
		return err
	}
	d.producer, d.net.Resolver = p, t.resolver
	opts, err := clientOptions(c, d, p.log)
	if err != nil {
		return err
	}
	opts = append(opts, producerOptions(c, t.linger, t.unknownRetries)...)
	opts = append(opts, kgo.WithHooks(p.hooks, ordering{}))
	p.client, err = kgo.NewClient(append(opts, t.extra...)...)
	if err != nil {
		return fmt.Errorf("setting up the client: %w", err)
	}
	return nil
}

// Window is how much of one topic the outbox may have inside the client: at most so many records, and so many bytes
// unless 0. The client puts everything it holds for a partition into one batch when it can, so these bounds are what
// keeps batch_num_messages, and batch_size where it is below message_max_bytes. A record larger than bytes goes alone.
func (p *Producer) Window() (records, bytes int) { return p.windowRecords, p.windowBytes }

// batch is some of the records of one Send. attempts is one allocation for all of them.
type batch struct {
	done     func(*outbox.Record, error)
	number   uint64 // counts the batches
	attempts []attempt
	left     atomic.Int32 // attempts without an outcome
	failed   atomic.Bool  // one has another outcome than to be acknowledged
	known    bool         // the client knew all of its topics before
	purges   uint32       // how many topics it had been made to forget
}

// attempt is one record on its way. It is the context of its own kgo.Record: that is how the promise, which is given
// the kgo.Record only, finds the way back without a map and without a closure per record. See also order.
type attempt struct {
	context.Context
	kgo     kgo.Record
	record  *outbox.Record
	batch   *batch
	chunk   atomic.Pointer[chunk] // of a trial, else nil
	settled atomic.Bool
	held    atomic.Bool // not sent because of one before it

	order     *order // of the topic; guards the two below
	partition int
	place     uint64   // in the partition, from 1; 0 = not there yet
	upTo      uint64   // the weight of what entered the partition up to this one
	next      *attempt // the one that entered the partition after it, if there are both
	last      uint64   // of one that kgo began a batch with: the place of one that is certain to be in the batch too
}

// Send implements outbox.Transport. It does not block, but for trials.
//
// deadline is when the attempt ends, give or take a second; zero is never. It is not kept with idempotence on: once a
// record may be on the broker, the client cannot give it up without risking the duplicate that idempotence rules out,
// so only the broker's answer or Close ends the attempt.
func (p *Producer) Send(records []*outbox.Record, deadline time.Time, done func(*outbox.Record, error)) {
	if len(records) == 0 {
		return
	}
	if p.log.wants("queue") {
		p.log.tell("queue", "%d record(s) from the queue of topic %s handed to the client", len(records), records[0].Topic)
	}
	ctx, held := p.until(deadline), false
	for first := 0; first < len(records); first += pieceRecords {
		end := min(first+pieceRecords, len(records))
		held = p.sendPiece(records[first:end], records[end:], ctx, held, done)
	}
}

// pieceRecords is how many records go to the client with one allocation, which is reused: few enough for what is done
// with them to find them in the processor's cache.
const pieceRecords = 512

// sendPiece is Send for some of its records, which rest follow. held: the first must not be sent, see try. It says whether
// that is so with the first of rest.
func (p *Producer) sendPiece(records, rest []*outbox.Record, ctx context.Context, held bool, done func(*outbox.Record, error)) bool {
	b := &batch{done: done}
	p.prepare(b, records, ctx)
	p.mtx.Lock()
	p.underway.given++
	b.number = p.underway.given
	if !p.closed { // if it is, every attempt ends in produce
		p.live[b] = struct{}{}
	}
	p.mtx.Unlock()
	attempts := b.attempts // which must not be looked at any more once they all have their outcome
	if held {
		p.finish(&attempts[0], errHeldBack)
	}
	for i := 0; i < len(attempts); {
		if attempts[i].settled.Load() { // by Close, or see try
			i++
		} else if n, late := p.try(b, i); n > 0 {
			i += n
			if i == len(attempts) && late {
				return len(rest) > 0 && rest[0].Topic == records[i-1].Topic
			}
		} else {
			p.produce(&attempts[i])
			i++
		}
	}
	return false
}

// prepare makes the attempts. Nil and empty stay what they are.
func (p *Producer) prepare(b *batch, records []*outbox.Record, ctx context.Context) {
	headers := 0
	for _, r := range records {
		headers += len(r.Headers)
	}
	all := make([]kgo.RecordHeader, 0, headers)
	b.attempts = p.attempts(len(records))
	b.left.Store(int32(len(records)))
	b.known, b.purges = true, p.purges.Load()
	for i, r := range records {
		a := &b.attempts[i]
		a.Context, a.record, a.batch = ctx, r, b
		if i > 0 && records[i-1].Topic == r.Topic {
			a.order = b.attempts[i-1].order
		} else {
			a.order = p.orderOf(r.Topic)
			b.known = b.known && a.order.standing.Load() == isKnown
		}
		a.kgo.Topic, a.kgo.Key, a.kgo.Value, a.kgo.Timestamp, a.kgo.Context = r.Topic, r.Key, r.Value, r.Accepted, a
		if len(r.Headers) > 0 {
			first := len(all)
			for _, h := range r.Headers {
				all = append(all, kgo.RecordHeader{Key: h.Name, Value: h.Value})
			}
			a.kgo.Headers = all[first:len(all):len(all)]
		}
	}
}

// attempts gives n attempts without content.
func (p *Producer) attempts(n int) []attempt {
	if n < pieceRecords/4 { // not worth a whole one
		return make([]attempt, n)
	}
	if used, ok := p.used.Get().(*[pieceRecords]attempt); ok {
		return used[:n]
	}
	return new([pieceRecords]attempt)[:n]
}

// reuse takes the attempts of a batch back, if the client can know nothing of them any more. A promise is the last it does
// with a record that was acknowledged. But with the first record for a topic that it does not know a goroutine waits that
// may outlast it.
func (p *Producer) reuse(b *batch) {
	if cap(b.attempts) == pieceRecords && b.known && !b.failed.Load() && b.purges == p.purges.Load() {
		clear(b.attempts)
		p.used.Put((*[pieceRecords]attempt)(b.attempts[:pieceRecords]))
	}
}

func (p *Producer) orderOf(topic string) *order {
	o := p.orders[topic]
	if o == nil {
		o = newOrder(p.batchBytes)
		p.orders[strings.Clone(topic)] = o
	}
	return o
}

// produce hands one record to the client, unless one before it in its topic is to be tried again: it would overtake.
func (p *Producer) produce(a *attempt) {
	switch {
	case p.ctx.Err() != nil, p.recalled.Load():
		p.finish(a, ErrClosed)
	case a.record.Withdrawn():
		p.finish(a, errHeldBack)
	default:
		p.client.Produce(a.Context, &a.kgo, p.promise)
	}
}

// until is a context that ends with the second deadline is in. Records of one second share it, so that there is one
// timer for all of them.
func (p *Producer) until(deadline time.Time) context.Context {
	if !p.cancellable || deadline.IsZero() {
		return context.Background()
	}
	end := deadline.Truncate(time.Second)
	if end.Before(deadline) {
		end = end.Add(time.Second)
	}
	if p.deadline == nil || !end.Equal(p.deadlineAt) || p.deadline.Err() != nil {
		ctx, cancel := context.WithDeadline(p.life, end)
		context.AfterFunc(ctx, cancel) // frees what the runtime holds for it
		p.deadline, p.deadlineAt = ctx, end
	}
	return p.deadline
}

// settle is the promise of every record. kgo calls it from one goroutine, one record after the other.
func (p *Producer) settle(r *kgo.Record, err error) {
	defer host.Guard(p.hooks.log, "the outcome of a record")
	if a := r.Context.(*attempt); !p.runs.take(p, a, err) {
		p.finish(a, err)
	}
}

// finish gives a record its outcome, the first time it is called for the attempt.
func (p *Producer) finish(a *attempt, err error) {
	if a.settled.Swap(true) {
		return
	}
	again := false
	if err == nil {
		p.status.acknowledged.Store(p.now().UnixNano())
		p.placed(a)
	} else {
		a.batch.failed.Store(true)
		err, again = p.judge(a, err)
	}
	b := a.batch
	b.done(a.record, err)
	a.order.leave(a, again)
	if c := a.chunk.Load(); c != nil {
		c.finished()
	}
	if b.left.Add(-1) == 0 {
		p.retire(b)
	}
}

// placed tells an acknowledged record where it stands.
func (p *Producer) placed(a *attempt) {
	a.record.Partition, a.record.Offset = a.kgo.Partition, -1
	if p.answered {
		a.record.Offset = a.kgo.Offset
	}
}

// judge says what a failure means for the record, and whether it is to be tried again.
func (p *Producer) judge(a *attempt, err error) (outcome error, again bool) {
	topic, c := a.record.Topic, a.chunk.Load()
	switch {
	case ended(err):
		err = ErrClosed
	case errors.Is(err, kerr.UnknownTopicID):
		a.order.standing.Store(wasPurged)
		p.forget(topic)
	case p.refusedForNow(err):
		if a.order.blame(a) {
			a.record.Refusals++
		}
		if int(a.record.Refusals) > p.retries {
			err = &retriesSpent{err}
		}
	case errors.Is(err, kerr.TopicAuthorizationFailed):
		err = &explained{err, "this user is not authorized to write to it (" + kerr.TopicAuthorizationFailed.Message + "); see the cluster's ACLs"}
	case p.ofBatch(err) && (c == nil || c.size > 1):
		p.trials.suspect(topic)
		err = &sharedVerdict{err}
	}
	_, final := p.Permanent(err)
	if !final {
		p.status.retried.Add(1)
	}
	if c != nil {
		c.note(final)
	}
	return err, !final
}

// forget makes the client learn a topic anew. After a topic was deleted and created again, kgo refuses to produce to
// the new one until then. Only for that error: forgetting restarts the sequence numbers of idempotence, which a topic
// that still is the same would take for duplicates.
func (p *Producer) forget(topic string) {
	p.mtx.Lock()
	busy := p.purging[topic] || p.closed
	if !busy {
		p.purging[topic] = true
	}
	p.mtx.Unlock()
	if busy {
		return
	}
	p.purges.Add(1)
	go func() { // it waits for a round of metadata, which a promise must not
		p.client.PurgeTopicsFromProducing(topic)
		p.mtx.Lock()
		delete(p.purging, topic)
		p.mtx.Unlock()
	}()
}
