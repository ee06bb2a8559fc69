package outbox

import (
	"strings"
	"sync"
	"time"

	"reskafka/internal/metrics"
)

// Settings are the connection's options that the outbox itself obeys.
type Settings struct {
	Timeout       time.Duration // message_timeout_ms: how long after being accepted a record may still be acknowledged
	WindowRecords int           // most records of one topic inside the client: no batch can hold more
	WindowBytes   int           // most bytes of one topic inside the client, one record alone excepted; 0 = no bound
	Backoff       time.Duration // wait after a first failed round, doubling to
	BackoffMax    time.Duration

	// What follows counts once there is a Spool, see Attach.
	Durability   Durability    // of the records that do not ask for one themselves
	QueueRecords int           // most records in memory before those that must not be lost go to disk; 0 = no bound
	QueueBytes   int64         // and bytes of their keys and values
	DropOldest   bool          // a full spool gives up what is oldest, rather than not take what is new
	MaxAge       time.Duration // how long a record may wait on disk; 0 = for as long as it takes
}

// Gate is told of each record, once, that the stage need not answer for it any more: it is on disk or has had its
// outcome, whichever comes first. Release is called from any goroutine, before the record's Report, and must not block. The
// record must not be looked at afterwards, it is used again; nor must one whose Report has returned.
type Gate interface {
	Release(r *Record)
}

// Observer hears of records that were dropped, for the log. It is called from any goroutine, without locks held, and
// must not block. err is the client's last word, or nil. Without a topic they are dead letters of earlier runs.
type Observer interface {
	Dropped(topic, reason string, records int, err error)

	// Died is Dropped for records that became dead letters.
	Died(topic, reason string, records int, err error)

	// Spooling is told that the spool cannot be used for now, and why, and with nil that it can again.
	Spooling(trouble error)

	// Panicked is told of a defect: the outbox has failed and drops what it has and what still comes.
	Panicked(recovered any)
}

// Outbox is the one way a connection's records leave. Create it with New; all methods may be called from any goroutine.
type Outbox struct {
	gate     Gate
	observer Observer
	epoch    time.Time // where the outbox's own clock starts: monotonic, so that a step of the wall clock expires nothing

	wake    chan struct{} // holds a token when the feeder has something to look at
	stopped chan struct{} // closed when the feeder has ended

	mtx       sync.Mutex // guards everything below; never held over a call to the transport, gate or observer
	settings  Settings
	transport Transport
	next      *swap // a transport to change to once the present one is empty
	closing   bool
	ended     bool

	closeLimit time.Duration // how long the clients may take to close; 0 = as long as they like
	born       time.Duration // of the record accepted last
	lanes      map[string]*lane
	ready      []*lane // lanes with something to send and room for it, as far as known
	pausing    []*lane // lanes that wait for their resume time
	waiting    int     // in memory and not inside the client, over all lanes
	sending    int
	away       int           // on disk only
	bytes      int64         // of what is waiting or sending
	expiry     time.Duration // no waiting record is due earlier; 0 = nothing is waiting
	idle       chan struct{} // closed when nothing is left anywhere; nil = nobody asked

	keeping
	deadLetters
	spare   spare
	lent    []*chunk // that a Send under way was given records of
	batched int      // how many records were collected last
	handing handing
	wakes   time.Duration // when the feeder looks again by itself
	relief  *time.Timer   // makes another goroutine the feeder when Send takes too long
}

// swap is a change of client: the new one takes over when the old one is empty, or at the latest at deadline.
type swap struct {
	transport Transport
	settings  Settings
	deadline  time.Duration
}

// New starts an outbox over transport.
func New(settings Settings, transport Transport, gate Gate, observer Observer) *Outbox {
	o := &Outbox{
		gate: gate, observer: observer, epoch: time.Now().Add(-2 * longestStaging), settings: settings, transport: transport,
		wake: make(chan struct{}, 1), keeping: keeping{toKeep: make(chan struct{}, 1)}, stopped: make(chan struct{}), lanes: map[string]*lane{},
	}
	o.relief = time.AfterFunc(time.Hour, o.relieve)
	o.attend(transport)
	go o.feed()
	return o
}

// Accept takes responsibility for records, in their order. It keeps a copy: the slice and all bytes it leads to are the
// caller's when it returns. It sends them at once if that may be, so it blocks as long as the client's Send, but never on the disk.
// Records that come after Close are dropped and counted like those it gave up.
func (o *Outbox) Accept(records []Record) { o.AcceptStaying(records, nil) }

// AcceptStaying is Accept for records whose keys, values and states lie in memory and stay there until the Gate is told of each:
// they need not be copied while they wait. What does not lie in memory is copied at once; nil is no memory. Another process may
// write to it: a record's bytes are those that are there when its turn comes, and do not change from then on.
func (o *Outbox) AcceptStaying(records []Record, memory []byte) {
	o.entered(o.enqueue(records, memory))
}

// entered tells of records that had their outcome at once and sends the others.
func (o *Outbox) entered(gone []outcome, open bool) {
	o.tell(gone)
	if open {
		o.feedHere()
	} else {
		o.giveUp()
	}
}

// enqueue puts records into their lanes. open = false: the outbox has ended, nobody will send them.
func (o *Outbox) enqueue(records []Record, memory []byte) (gone []outcome, open bool) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	return o.enter(records, memory, true), !o.ended
}

// enter is enqueue for records that may be in the account already: count = they are not. The caller holds mtx.
func (o *Outbox) enter(records []Record, memory []byte, count bool) (gone []outcome) {
	var l *lane
	wall, now := time.Now(), o.now()
	for i := range records {
		r := &records[i]
		if l == nil || l.topic != r.Topic {
			l = o.lane(r.Topic)
		}
		if count && !r.Probe {
			l.count.Add(metrics.RecordsAccepted, 1)
		}
		r.Topic, r.lane = l.topic, l
		o.born = max(o.born, now-staged(r, wall)) // never backwards: queues are in the order of falling due
		r.born = o.born
		if out, ended := o.join(l, r, records[i+1:], memory); ended {
			gone = append(gone, out)
		}
	}
	o.spillFull()
	return gone
}

// Swap changes to another client and other settings without losing or reordering anything: the present client gets
// no more records and up to patience to return those it has; then it is closed and what it still held is sent by the
// new one. It returns at once. A swap that is still waiting is replaced, and its transport closed; the patience with
// the present client does not start anew.
func (o *Outbox) Swap(transport Transport, settings Settings, patience time.Duration) {
	o.mtx.Lock()
	present, replaced, ended := o.transport, o.next, o.closing
	if !ended {
		o.next = &swap{transport, settings, o.now() + patience}
		if replaced != nil {
			o.next.deadline = min(o.next.deadline, replaced.deadline)
		}
		o.hurry()
	}
	o.mtx.Unlock()
	switch {
	case ended:
		transport.Close()
	case replaced != nil:
		replaced.transport.Close()
	default:
		if r, ok := present.(recaller); ok {
			r.Recall()
		}
	}
	o.signal()
}

// Drain waits until nothing is waiting, sending or spooled, or until cancel is closed, and says which.
func (o *Outbox) Drain(cancel <-chan struct{}) bool {
	o.mtx.Lock()
	if o.empty() || o.ended {
		o.mtx.Unlock()
		return true
	}
	if o.idle == nil {
		o.idle = make(chan struct{})
	}
	idle := o.idle
	o.mtx.Unlock()
	select {
	case <-idle:
		return true
	case <-cancel:
		return false
	}
}

// CloseWithin is Close with a limit for how long a client that can be told so may take to close.
func (o *Outbox) CloseWithin(limit time.Duration) {
	o.mtx.Lock()
	o.closeLimit = limit
	o.mtx.Unlock()
	o.Close()
}

// Close closes the client, has what is left written to disk where it must not be lost, drops the rest and ends the
// feeder. When it returns, every record has had its outcome or is on disk, and nothing is called any more.
func (o *Outbox) Close() {
	o.mtx.Lock()
	o.closing = true
	o.hurry()
	o.mtx.Unlock()
	o.signal()
	<-o.stopped
}

// Collect adds every topic's account to v, in any order. The accounts are of one moment, so that each adds up: accepted =
// acknowledged + waiting + sending + spooled + dead letters + dropped. A record on disk counts as spooled also while it is in
// memory or inside the client. Dead letters that earlier runs left have an empty topic. Probes are not counted.
func (o *Outbox) Collect(v *metrics.Values) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	for _, l := range o.lanes {
		if l.count.Of(metrics.RecordsAccepted) == 0 { // there was nothing but probes
			continue
		}
		at := v.In(metrics.Topic, l.topic)
		l.count.Collect(at)
		at.Add(metrics.RecordsSpooled, l.onDisk()+l.left)
		at.Add(metrics.RecordsWaiting, uint64(l.memory()-l.sending-l.cached-(l.probes-l.probesSent)))
		at.Add(metrics.RecordsSending, uint64(l.sending-l.shown-l.probesSent))
	}
	if o.older.Of(metrics.RecordsAccepted) > 0 {
		o.older.Collect(v.In(metrics.Topic, ""))
	}
}

func (o *Outbox) lane(topic string) *lane {
	l := o.lanes[topic]
	if l == nil {
		l = &lane{topic: strings.Clone(topic)}
		l.from, l.read, l.next, l.told = 1, 1, 1, 1
		l.later.spare = &o.spare
		o.spare.lanes++
		o.lanes[l.topic] = l
	}
	return l
}

// longestStaging is the most that is believed of a record's age on arrival. It comes from the wall clock, which may
// have been set in between; the stage hands records over within milliseconds.
const longestStaging = 10 * time.Second

// staged is how old a record is on arrival. An age that cannot be true is none: rather late than early.
func staged(r *Record, wall time.Time) time.Duration {
	age := wall.Sub(r.Accepted)
	if age < 0 || age > longestStaging {
		return 0
	}
	return age
}

// now is the time on the outbox's own clock, on which nothing happens at 0: a record may be older than the outbox.
func (o *Outbox) now() time.Duration { return time.Since(o.epoch) }

// due is when a record's time is up. On disk there is time.
func (o *Outbox) due(r *Record) time.Duration {
	switch {
	case r.Lifetime > 0:
		return r.born + r.Lifetime
	case r.lane.durable:
		return never
	}
	return r.born + o.settings.Timeout
}

// deadline is when an attempt to send a record that begins now is to end.
func (o *Outbox) deadline(r *Record, now time.Duration) time.Duration {
	if due := o.due(r); due != never {
		return due
	}
	return now + o.settings.Timeout
}

// dueAt notes that a waiting record falls due then.
func (o *Outbox) dueAt(due time.Duration) {
	if o.expiry == 0 || due < o.expiry {
		o.expiry = due
		o.hurry()
	}
}

func (o *Outbox) markReady(l *lane) {
	if !l.ready {
		l.ready = true
		o.ready = append(o.ready, l)
	}
}

func (o *Outbox) signal() {
	select {
	case o.wake <- struct{}{}:
	default:
	}
}
