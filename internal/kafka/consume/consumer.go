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

// Progress is what the module and the consumer tell each other without a call, in memory that both see. Its methods
// may be called from any goroutine and must not block. They are not called any more once Close has returned or Next has
// returned false.
type Progress interface {
	// Delivered is how many callbacks have returned since the Progress was made. It never goes back, and the module
	// counts a message at the moment its callback has returned: the offset of what is counted may be committed.
	Delivered() uint64

	// Hurry asks the module, while it is set, to begin no other callback of its batch and call Next instead, which
	// takes what was not delivered back. The module looks at it before every callback. A module that does not
	// makes a rebalance of its group wait for the rest of the batch, and nothing else.
	Hurry(set bool)
}

// Consumer is one member of a consumer group: one subscription of a connection. One thread at a time calls Next and
// delivers what it gives; everything else may be called from any goroutine, also between two calls of Next, that is
// from inside a callback.
//
// How rebalances and deliveries keep out of each other's way: from the moment a batch is chosen until Next is called
// again the client is not allowed to give partitions away, so nothing is delivered that another member may have
// received already. When a rebalance has to wait for that, the client says so and Hurry is set, so that it waits for one
// callback and not for the batch; batches can then be large. What was polled but not delivered waits in pending, which
// is emptied when the partitions go; the next owner begins at the committed offset.
type Consumer struct {
	name         string // the connection
	group        string
	topics       []string
	auto         bool // enable_auto_commit
	reset        string
	maxPoll      time.Duration
	commitTime   time.Duration // that one commit may take
	sessionTime  time.Duration // session_timeout_ms
	tune         consumerTuning
	net          *client.Dialer
	opts         []kgo.Opt
	log          host.Logger
	hooks        *client.Hooks
	status       *client.Status
	debug        *client.Logger
	lines        *throttle.Throttle
	doubt        chan struct{} // holds one: topics are to be looked for now
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
	left      *session      // that is being left, until Next has noticed
	renew     string        // why Next is to begin a new session, empty for no reason
	renewable time.Time     // earliest next session because of a stuck partition
	renewal   time.Duration // between the last two of these
	poll      context.Context
	wake      context.CancelFunc // ends poll: something changed that Next has to look at
	pending   []run              // polled and not handed out, in order
	out       *Batch             // the batch that the module has, nil when it has none
	shut      bool               // the client gives no partitions away: it was polled and not told AllowRebalance since
	base      uint64             // Progress.Delivered when it was handed out
	marked    int                // how many of out are marked to be committed
	seen      int                // how many callbacks of out have returned, as far as the watchdog has seen
	since     time.Time          // when the callback under way began, as far as it has
	watch     *time.Timer
	blocked   bool // a rebalance waits for the batch
	closing   bool
	paused    map[string]bool
	allPaused bool
	numbers   consumerNumbers

	ending atomic.Bool // end was called; life is done when it has finished
}

// session is one membership: a client that has left its group cannot join again.
type session struct {
	client   *kgo.Client
	entrance *entrance
	life     context.Context // the client's, done when it ends or is to be given up
	cancel   context.CancelFunc
	gone     chan struct{} // closed when the group has been left, or that goes on in the background

	// Guarded by the consumer's mtx.
	assigned map[string][]int32
	places   map[topicPartition]*place
	stale    map[string][16]byte // topics that are not there any more as the client knows them, with their ids
	cleared  map[string]bool     // topics that were stale and turned out to be there
}

// consumerTuning is what a test sets differently.
type consumerTuning struct {
	now        func() time.Time
	closeWait  time.Duration // for the last commit and leaving the group together
	missing    time.Duration // between two looks for topics that do not exist
	known      time.Duration // and for those that do
	pause      time.Duration // first pause of a partition that cannot be read
	progress   time.Duration // between two looks at partitions that do not move
	still      time.Duration // without a record, before a partition is looked at
	stuck      time.Duration // without a record, before a new session is to fetch it
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

// NewConsumer subscribes to topics as a member of c's group. A topic that begins with ^ is a regular expression, as in
// librdkafka. It reads the TLS files but does not touch the network itself; goroutines of the client join the group and
// fetch at once, so that Next finds something. An error is a sentence that names the option at fault. log and status
// may be nil; a status is for this consumer alone. departures are shared by all consumers of an engine: memberships outlive
// the consumer there when the brokers take too long to let them go.
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
	// The client's own limits are librdkafka's here: a fetch may take its max wait on top of socket_timeout_ms, and
	// joining a group lasts as long as its slowest member may take.
	net.Silence = conf.SocketTimeout + max(conf.MaxPollInterval, fetchMaxWait)
	// The client asks one broker for one thing after the other: a connection that waits its turn holds up the heartbeats on
	// another, which must not cost the membership.
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

// join makes a member. It does not wait for anything.
func (c *Consumer) join() (*session, error) {
	ctx, cancel := context.WithCancel(c.departures.life)
	over := make(chan struct{})
	s := &session{
		places: map[topicPartition]*place{}, life: ctx, gone: make(chan struct{}),
		// The client's own context is below this one, and done only when cancel has returned.
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

// Pause holds topics back, all of the consumer's without arguments: it begins no callback for a record of theirs once
// the one under way has returned. The member stays in its group and keeps its partitions. It does not block.
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

// Resume ends Pause for topics, and for all of them without arguments. It does not block.
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

// changed makes Next look again, and the module come back to it. The caller holds mtx.
func (c *Consumer) changed() {
	c.wake()
	if c.out != nil {
		c.progress.Hurry(true)
	}
}

// Assigned gives the partitions that are the consumer's at the moment, by topic.
func (c *Consumer) Assigned() map[string][]int32 {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.session == nil {
		return nil
	}
	return c.session.assigned // replaced as a whole, never changed
}

// Stop ends the consumer as soon as the callback under way, if any, has returned, and does not wait for that. No other
// begins once the module has seen Hurry. The offset of the last message is committed, where enable_auto_commit is on,
// and the group left by the call of Next that then returns false; without a batch under way, at once.
func (c *Consumer) Stop() {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	c.closing = true
	c.changed()
	if c.out == nil {
		go c.end()
	}
}

// Close ends the consumer now: what was delivered is committed where enable_auto_commit is on, the group is left, and
// Next returns false. A message whose callback is still under way does not count as delivered. It takes a second at
// most, whatever the brokers do: what they have not answered by then is left to the Departures. Calling it again waits
// for the first call.
func (c *Consumer) Close() { c.CloseWithin(c.tune.closeWait) }

// CloseWithin is Close with another limit, which also holds for one that is under way.
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

// end leaves the group for good, once. Later calls wait for the first. A batch that the module has is settled by then.
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
