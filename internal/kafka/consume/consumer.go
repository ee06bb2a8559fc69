package consume

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/throttle"
)

// Progress is memory shared by the module and the consumer, an exchange without calls. The methods are safe
// for concurrent use and must not block. No method is called after Close has returned or Next has returned
// false.
type Progress interface {
	// Delivered returns the number of callbacks that have returned since the Progress was created. The number
	// never decreases. The module counts a message right after the return of the callback: the consumer may
	// commit the offset of a counted message.
	Delivered() uint64

	// Hurry sets or clears a request: the module begins no further callback of its batch and calls Next,
	// which takes the undelivered messages back. The module checks the request before every callback. A
	// module without the check only delays rebalances until the end of its batch.
	Hurry(set bool)
}

// Consumer is a member of a consumer group: one subscription of a connection. One thread at a time calls Next
// and delivers the batch. All other methods are safe for concurrent use, also inside a callback.
//
// Rebalances and deliveries exclude each other. From the choice of a batch until the next call of Next the
// client must not release partitions, so no message is delivered after another member may have received the
// same message. When a rebalance has to wait, the client reports the wait and Hurry is set. The rebalance
// then waits for one callback, not for the batch, so batches can be large. Polled, undelivered records wait
// in pending. A loss of the partitions empties pending; the next owner begins at the committed offset.
type Consumer struct {
	name         string // the connection
	group        string
	topics       []string
	auto         bool // enable_auto_commit
	reset        string
	maxPoll      time.Duration
	commitTime   time.Duration // limit of one commit
	sessionTime  time.Duration // session_timeout_ms
	tune         consumerTuning
	net          *client.Dialer
	opts         []kgo.Opt
	log          host.Logger
	hooks        *client.Hooks
	status       *client.Status
	debug        *client.Logger
	lines        *throttle.Throttle
	doubt        chan struct{} // capacity 1: look for topics now
	reads        *batchReads
	decompressor *decompressor
	progress     Progress
	departures   *Departures

	life    context.Context // done when the consumer has ended
	endLife context.CancelFunc
	late    chan struct{} // closed by tooLate: nothing waits for a group to be left any longer
	tooLate func()

	committing sync.RWMutex // read while committing by Commit, written when partitions are revoked

	mtx       sync.Mutex
	session   *session      // nil when the group was left
	left      *session      // session in the process of leaving, until Next has noticed
	renew     string        // why Next is to begin a new session, empty for no reason
	renewable time.Time     // earliest next session because of a stuck partition
	renewal   time.Duration // between the last two of these
	poll      context.Context
	wake      context.CancelFunc // ends poll, so that Next sees a change
	pending   []run              // polled and not handed out, in order
	out       *Batch             // the module's batch, or nil
	shut      bool               // the client must not release partitions: polled, and AllowRebalance not called since
	base      uint64             // Progress.Delivered at the hand-out of the batch
	marked    int                // how many of out are marked to be committed
	seen      int                // how many callbacks of out have returned, as far as the watchdog has seen
	since     time.Time          // start of the current callback, as far as observed
	watch     *time.Timer
	blocked   bool // a rebalance waits for the batch
	closing   bool
	paused    map[string]bool
	allPaused bool
	numbers   consumerNumbers

	ending atomic.Bool // end was called; the end of life means completion
}

// session is a single membership: a client cannot join again after leaving its group.
type session struct {
	client   *kgo.Client
	entrance *entrance
	life     context.Context // of the client; done at its end or when abandoned
	cancel   context.CancelFunc
	gone     chan struct{} // closed when the group was left, or the leave continues in the background

	// Guarded by the consumer's mtx.
	assigned map[string][]int32
	places   map[topicPartition]*place
	stale    map[string][16]byte // topics deleted since the client learned their ids, with these ids
	cleared  map[string]bool     // topics found present after a suspicion
}

// consumerTuning has the values that tests change.
type consumerTuning struct {
	now        func() time.Time
	closeWait  time.Duration // for the last commit and leaving the group together
	missing    time.Duration // between two searches for missing topics
	known      time.Duration // and for existing topics
	pause      time.Duration // first pause of an unreadable partition
	progress   time.Duration // between two checks of partitions without progress
	still      time.Duration // without a record, before a partition is looked at
	stuck      time.Duration // time without a record before a new session
	extra      []kgo.Opt
	dialer     func(*client.Dialer) // changes how connections are made; nil = not at all
	onAssigned func(map[string][]int32)
	onLook     func() // before a look for topics
}

func defaultConsumerTuning() consumerTuning {
	return consumerTuning{
		now: time.Now, closeWait: 900 * time.Millisecond, missing: 700 * time.Millisecond, known: 30 * time.Second,
		pause: time.Second, progress: progressLook, still: progressStill, stuck: 2 * progressStill,
	}
}

// NewConsumer subscribes to topics as a member of c's group. A topic that begins with ^ is a regular
// expression, as in librdkafka. NewConsumer reads the TLS files and does not touch the network; goroutines of
// the client join the group and fetch at once. An error is a sentence with the name of the wrong option. log
// and status may be nil; the consumer owns its status. All consumers of an engine share departures:
// memberships continue there after the consumer, if brokers answer too late.
func NewConsumer(c *config.Connection, topics []string, log host.Logger, status *client.Status, progress Progress, departures *Departures) (*Consumer, error) {
	return newConsumer(c, topics, log, status, progress, departures, defaultConsumerTuning())
}

func newConsumer(c *config.Connection, topics []string, log host.Logger, status *client.Status, progress Progress, departures *Departures, t consumerTuning) (*Consumer, error) {
	if status == nil {
		status = &client.Status{}
	}
	life, endLife := context.WithCancel(context.Background())
	k := &Consumer{
		name:         c.Name,
		group:        c.GroupID,
		topics:       topics,
		auto:         c.AutoCommit,
		reset:        c.AutoOffsetReset,
		maxPoll:      c.MaxPollInterval,
		commitTime:   client.Clamp(c.RequestTimeout, client.MinRequestTimeout, client.MaxRequestTimeout),
		sessionTime:  c.SessionTimeout,
		tune:         t,
		log:          log,
		debug:        client.NewLogger(c, log),
		hooks:        client.NewHooks(c, "records wait there", log, status, t.now),
		status:       status,
		lines:        throttle.New(client.QuietTime, t.now),
		progress:     progress,
		numbers:      consumerNumbers{delivered: progress.Delivered()},
		departures:   departures,
		life:         life,
		endLife:      endLife,
		paused:       map[string]bool{},
		late:         make(chan struct{}),
		doubt:        make(chan struct{}, 1),
		reads:        newBatchReads(),
		decompressor: newDecompressor(c, decompressed),
	}
	k.tooLate = sync.OnceFunc(func() { close(k.late) })
	k.poll, k.wake = context.WithCancel(life)
	if err := k.start(c); err != nil {
		endLife()
		return nil, fmt.Errorf("connection %s: %w", c.Name, err)
	}
	k.watch = time.AfterFunc(time.Hour, k.look)
	k.watch.Stop()
	go k.watchTopics()
	go k.watchProgress()
	k.debug.Logf("generic", "client for consuming made")
	return k, nil
}

func (c *Consumer) start(conf *config.Connection) error {
	if conf.GroupID == "" {
		return errors.New("consuming needs group_id")
	}
	net, err := client.NewDialer(conf, c.life, c.status, c.debug)
	if err != nil {
		return err
	}
	c.net = net
	if c.tune.dialer != nil {
		c.tune.dialer(net)
	}
	net.Observer = c.hooks
	// The client's limits equal librdkafka's: a fetch may take its max wait in addition to socket_timeout_ms,
	// and a join lasts as long as the slowest member.
	net.Silence = conf.SocketTimeout + max(conf.MaxPollInterval, fetchMaxWait)
	// The client dials one broker at a time: a connection waiting for its turn delays heartbeats to another
	// broker, and must not cost the membership.
	net.LimitBackoff(conf.SessionTimeout / 4)
	c.opts, err = client.Options(conf, net, c.debug)
	if err != nil {
		return err
	}
	own, err := consumerOptions(conf, c.topics)
	if err != nil {
		return err
	}
	c.opts = append(append(c.opts, own...), kgo.WithHooks(consumerHooks{c.hooks, c.reads}), kgo.WithDecompressor(c.decompressor))
	c.mtx.Lock() // the client's callbacks find the session complete
	defer c.mtx.Unlock()
	c.session, err = c.join()
	return err
}

// join creates a member. It never blocks.
func (c *Consumer) join() (*session, error) {
	ctx, cancel := context.WithCancel(c.departures.life)
	over := make(chan struct{})
	s := &session{
		places: map[topicPartition]*place{}, life: ctx, gone: make(chan struct{}),
		// The client's context is a child of this context, and is done only after the return of cancel.
		cancel: sync.OnceFunc(func() { cancel(); close(over) }),
	}
	s.entrance = newEntrance(kgo.RangeBalancer(), over, func() { c.entering(s) })
	opts := append(append([]kgo.Opt{}, c.opts...), kgo.WithContext(ctx), kgo.Dialer(c.net.Until(ctx).Dial))
	opts = append(append(opts, c.groupOptions(s)...), c.tune.extra...)
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		cancel()
		return nil, fmt.Errorf("setting up the client: %w", err)
	}
	s.client = cl
	return s, nil
}

// Pause stops deliveries of topics, or of all topics without arguments: no callback begins for their records
// after the current callback has returned. The member stays in its group and keeps its partitions. Pause
// never blocks.
func (c *Consumer) Pause(topics ...string) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	for _, topic := range topics {
		c.paused[topic] = true
	}
	if len(topics) == 0 {
		c.allPaused = true
	} else if c.session != nil {
		c.session.client.PauseFetchTopics(topics...)
	}
	c.changed()
}

// Resume ends Pause for topics, or for all topics without arguments. Resume never blocks.
func (c *Consumer) Resume(topics ...string) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if len(topics) == 0 {
		c.allPaused = false
		for topic := range c.paused {
			topics = append(topics, topic)
		}
	}
	for _, topic := range topics {
		delete(c.paused, topic)
	}
	if c.session != nil && len(topics) > 0 {
		c.session.client.ResumeFetchTopics(topics...)
	}
	c.changed()
}

// changed wakes Next and asks the module to call Next again. Caller must hold mtx.
func (c *Consumer) changed() {
	c.wake()
	if c.out != nil {
		c.progress.Hurry(true)
	}
}

// Assigned returns the consumer's present partitions, by topic.
func (c *Consumer) Assigned() map[string][]int32 {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.session == nil {
		return nil
	}
	return c.session.assigned // replaced as a whole, never changed
}

// Stop requests the end of the consumer after the current callback, without waiting. No callback begins after
// the module has seen Hurry. With a batch in the module, the next call of Next commits the last offset, where
// enable_auto_commit is on, leaves the group and returns false. Without a batch, the consumer leaves at once.
func (c *Consumer) Stop() {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	c.closing = true
	c.changed()
	if c.out == nil {
		go c.end()
	}
}

// Close ends the consumer now: delivered offsets are committed where enable_auto_commit is on, the group is
// left, and Next returns false. A message with a running callback does not count as delivered. Close takes a
// second at most; unanswered requests move to the Departures. A second call waits for the first.
func (c *Consumer) Close() { c.CloseWithin(c.tune.closeWait) }

// CloseWithin is Close with another limit, which also applies to a running Close.
func (c *Consumer) CloseWithin(limit time.Duration) {
	timer := time.AfterFunc(limit, c.tooLate)
	defer timer.Stop()
	c.mtx.Lock()
	c.closing = true
	c.observeLocked(c.settle())
	c.changed()
	c.out = nil
	c.mtx.Unlock()
	c.end()
}

// end leaves the group permanently, once. Later calls wait for the first. The module's batch is finished
// before.
func (c *Consumer) end() {
	if c.ending.Swap(true) {
		<-c.life.Done()
		return
	}
	c.mtx.Lock()
	c.closing = true
	s, left := c.session, c.left
	c.session, c.pending, c.out = nil, nil, nil
	c.watch.Stop()
	c.wake()
	c.mtx.Unlock()
	if s != nil {
		c.leave(s)
	}
	if left != nil {
		<-left.gone
	}
	c.hooks.Close()
	c.tally()
	c.endLife()
}
