package outbox

import (
	"strings"
	"sync"
	"time"

	"reskafka/internal/metrics"
	"reskafka/internal/record"
)

// Settings are the connection's options for the outbox itself.
type Settings struct {
	Timeout       time.Duration // message_timeout_ms: how long after being accepted a record may still be acknowledged
	WindowRecords int           // limit of one topic's records inside the client: no batch can have more
	WindowBytes   int           // limit of one topic's bytes inside the client, except a single record; 0 = no limit
	Backoff       time.Duration // wait after a first failed round, doubling to
	BackoffMax    time.Duration

	// The next fields apply with a Spool, see Attach.
	Durability   record.Durability // of records without a durability of their own
	QueueRecords int               // limit of records in memory before durable ones go to disk; 0 = no limit
	QueueBytes   int64             // the same for bytes of keys and values
	DropOldest   bool              // a full spool drops the oldest records instead of new ones
	MaxAge       time.Duration     // limit of a record's time on disk; 0 = no limit
}

// Gate gets each record once, as soon as the stage is no longer responsible: the record is on disk or has an
// outcome. Release is called from any goroutine, before the record's Report, and must not block. The record
// is reused after Release and Report: no access is allowed then.
type Gate interface {
	Release(r *record.Record)
}

// storedGate is an optional interface of a Gate. Stored notes a record on disk before its Release, while the
// client still needs the frame: after a death of this process no other may send the frame once more. The call
// comes with the outbox's lock held.
type storedGate interface{ Stored(r *record.Record) }

// Observer gets dropped records, for the log. Calls come from any goroutine, without locks held, and must not
// block. err is the client's last error, or nil. Records without a topic are dead letters of earlier runs.
type Observer interface {
	Dropped(topic, reason string, records int, err error)

	// Died is Dropped for new dead letters.
	Died(topic, reason string, records int, err error)

	// Spooling reports that the spool is unusable for now, with the reason, or usable again, with nil.
	Spooling(trouble error)

	// Panicked reports a defect: the outbox has failed and drops all present and later records.
	Panicked(recovered any)
}

// Outbox is the only path of a connection's records to the brokers. Create an Outbox with New; all methods
// are safe for concurrent use.
type Outbox struct {
	gate     Gate
	observer Observer
	epoch    time.Time // start of the outbox's own clock: monotonic, so a step of the wall clock expires nothing

	wake    chan struct{} // holds a token when the feeder has something to look at
	stopped chan struct{} // closed when the feeder has ended

	mtx       sync.Mutex // guards everything below; never held over a call to the transport, gate or observer
	settings  Settings
	transport Transport
	next      *swap // the next transport, after the end of the present one's records
	closing   bool
	ended     bool

	closeLimit time.Duration // limit for the clients' close; 0 = none
	born       time.Duration // of the record accepted last
	lanes      map[string]*lane
	ready      []*lane // lanes with something to send and room for it, as far as known
	pausing    []*lane // lanes before their resume time
	waiting    int     // in memory and not inside the client, over all lanes
	sending    int
	away       int           // on disk only
	bytes      int64         // of waiting and sending records
	expiry     time.Duration // no waiting record is due earlier; 0 = nothing is waiting
	idle       chan struct{} // closed when no record is left; nil = unused

	keeping
	deadLetters
	spare   spare
	lent    []*chunk      // with records lent to a running Send
	batched int           // how many records were collected last
	handing bool          // a goroutine is inside the transport's Send, or about to be
	wakes   time.Duration // when the feeder looks again by itself
}

// swap is a change of client: the new client takes over from an empty old client, or at the latest at
// deadline.
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
	transport.AnswerTo(o.answered)
	go o.feed()
	return o
}

// Accept takes responsibility for records, in their order, and keeps a copy: the caller owns the slice and
// all bytes after the return. Records are sent at once if possible. Accept blocks neither on the network nor on the
// disk. Records after Close are dropped and counted like records given up by Close.
func (o *Outbox) Accept(records []record.Record) { o.entered(o.enqueue(records)) }

// entered reports immediate outcomes and sends the other records.
func (o *Outbox) entered(gone []outcome, open bool) {
	o.tell(gone)
	if open {
		o.feedHere()
	} else {
		o.giveUp()
	}
}

// enqueue puts records into their lanes. open = false: the outbox has ended and sends nothing.
func (o *Outbox) enqueue(records []record.Record) (gone []outcome, open bool) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	return o.enter(records, true), !o.ended
}

// enter is enqueue for records possibly in the account already, and released by the stage: count = not yet.
// Caller must hold mtx.
func (o *Outbox) enter(records []record.Record, count bool) (gone []outcome) {
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
		r.Topic, r.Hold = l.topic, &l.withdrawn
		if out, ended := o.join(l, r, o.bornAt(r.Accepted, wall, now), !count, records[i+1:]); ended {
			gone = append(gone, out)
		}
	}
	o.spillFull()
	return gone
}

// Swap changes to another client and other settings without loss or reordering. The present client gets no
// more records and up to patience to return records. Then this client is closed, and the new client sends the
// rest. Swap returns at once. A later Swap replaces a waiting Swap and closes the waiting transport; the
// present client's patience does not start again.
func (o *Outbox) Swap(transport Transport, settings Settings, patience time.Duration) {
	o.mtx.Lock()
	present, replaced, ended := o.transport, o.next, o.closing
	if !ended {
		o.next = &swap{transport, settings, o.now() + patience}
		if replaced != nil {
			o.next.deadline = min(o.next.deadline, replaced.deadline)
		}
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

// CloseWithin is Close with a limit for the client's close, if the client supports one.
func (o *Outbox) CloseWithin(limit time.Duration) {
	o.mtx.Lock()
	o.closeLimit = limit
	o.mtx.Unlock()
	o.Close()
}

// Close closes the client, writes durable records to disk, drops the rest and ends the feeder. After the
// return every record has an outcome or is on disk, and no callback follows.
func (o *Outbox) Close() {
	o.mtx.Lock()
	o.closing = true
	o.mtx.Unlock()
	o.signal()
	<-o.stopped
}

// Collect adds every topic's account to v, in any order. The accounts are of one moment, so each adds up:
// accepted = acknowledged + waiting + sending + spooled + dead letters + dropped. A record on disk counts as
// spooled also while in memory or inside the client. Dead letters of earlier runs have an empty topic. Probes
// are not counted.
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

// longestStaging is the limit of a credible age of a record on arrival. The age depends on the wall clock,
// and the clock may be set in between; the stage hands records over within milliseconds.
const longestStaging = 10 * time.Second

// staged returns a record's age on arrival. An impossible age counts as none: rather late than early.
func staged(accepted, wall time.Time) time.Duration {
	age := wall.Sub(accepted)
	if age < 0 || age > longestStaging {
		return 0
	}
	return age
}

// now is the time on the outbox's own clock, on which nothing happens at 0: a record may be older than the outbox.
func (o *Outbox) now() time.Duration { return time.Since(o.epoch) }

// due is when a record's time is up. On disk there is time.
func (o *Outbox) due(r *entry) time.Duration { return o.dueOf(r.lane, r.Lifetime, r.born) }

// dueOf is due for a record of a lane with this Lifetime and time of acceptance.
func (o *Outbox) dueOf(l *lane, lifetime, born time.Duration) time.Duration {
	switch {
	case lifetime > 0:
		return born + lifetime
	case l.durable:
		return never
	}
	return born + o.settings.Timeout
}

// deadline returns the end of an attempt to send a record that begins now.
func (o *Outbox) deadline(r *entry, now time.Duration) time.Duration {
	if due := o.due(r); due != never {
		return due
	}
	return now + o.settings.Timeout
}

// dueAt sets the alarm for a waiting record.
func (o *Outbox) dueAt(due time.Duration) {
	if o.expiry == 0 || due < o.expiry {
		o.expiry = due
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
