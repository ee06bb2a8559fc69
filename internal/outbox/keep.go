package outbox

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// keeping is the state of the keeper, the goroutine for work with waits for the disk. The outbox's mutex
// guards all unless noted otherwise.
type keeping struct {
	open    func() (Spool, error)    // nil = nothing is ever kept on disk
	spool   Spool                    // the keeper's; nil = not open
	holding bool                     // no sends before the content of the spool is known
	failing [chore(len(doing))]error // errors of work, failing for now
	trouble error                    // one of failing
	retry   time.Time                // when to try again
	limits  *spool.Limits            // the latest, for when the spool is open
	owed    func() error             // removes taken dead letters after their arrival elsewhere on disk; used by the keeper
	chores  chores
	writing writing

	toKeep chan struct{} // holds a token when the keeper has something to look at
	orders chan func()   // to be run by the keeper
	finish chan struct{} // closed when the keeper is to end
	kept   chan struct{} // closed at the end

	finishing sync.Once

	moved  atomic.Uint64 // counts the keeper's progress
	saying sync.RWMutex  // held for reading over the keeper's calls to gate, observer and reports
	mute   bool          // under saying: no further calls
}

// chores are the keeper's work lists, in this order: a record must be a dead letter before it leaves its log.
type chores struct {
	bury   []letter
	write  []*lane
	read   []*lane
	settle []*lane
}

// none reports whether all lists are empty.
func (c *chores) none() bool { return len(c.bury)+len(c.write)+len(c.read)+len(c.settle) == 0 }

// writing is the write in progress.
type writing struct {
	lane  *lane
	batch []*entry
}

func (w *writing) of(l *lane) []*entry {
	if w.lane == l {
		return w.batch
	}
	return nil
}

// diskPatience is the limit of waits for a hanging disk: at the beginning for the spool's content, and at the
// end for unwritten records, which are then dropped.
const diskPatience = 3 * time.Second

// orderPatience is how long a command waits for the disk.
const orderPatience = 30 * time.Second

// say runs calls to gate, observer and reports for the keeper, which may learn late of the outbox's close
// because of a hanging disk.
func (o *Outbox) say(calls func()) {
	o.saying.RLock()
	defer o.saying.RUnlock()
	if !o.mute {
		calls()
	}
}

// spoolRetry is the keeper's wait before a retry.
const spoolRetry = time.Second

// lettersMost is the limit of dead letters in memory while the disk accepts none; older letters are dropped.
const lettersMost = 10_000

// Attach adds a disk to the outbox. The keeper calls open on a goroutine of the outbox, and again every
// second after a failure. Nothing is sent before the first attempt, because the spool's records come first,
// unless the disk hangs. Records accepted during failures wait in memory and are written after a success. A
// second call has no effect. The outbox closes the spool.
func (o *Outbox) Attach(open func() (Spool, error)) {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	if o.open != nil || o.closing {
		return
	}
	o.open, o.holding = open, true
	o.orders, o.finish, o.kept = make(chan func()), make(chan struct{}), make(chan struct{})
	go o.keep()
	time.AfterFunc(diskPatience, o.letGo)
}

// letGo ends the wait for the spool's content.
func (o *Outbox) letGo() {
	o.mtx.Lock()
	o.holding = false
	o.mtx.Unlock()
	o.signal()
}

// Attached reports whether there is a disk.
func (o *Outbox) Attached() bool {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	return o.spooling()
}

// keep is the keeper.
func (o *Outbox) keep() {
	defer close(o.kept)
	defer o.guardKeeper()
	timer := time.NewTimer(time.Hour)
	defer timer.Stop()
	for {
		timer.Reset(o.round())
		select {
		case <-o.toKeep:
		case <-timer.C:
		case order := <-o.orders:
			order()
		case <-o.finish:
			o.lastRound()
			return
		}
	}
}

// guardKeeper recovers a panic of the keeper, which would end the engine. Nothing is written to disk from
// then on, and the connection fails as after a panic of the feeder. The spool is closed, to be free for the
// next start.
func (o *Outbox) guardKeeper() {
	r := recover()
	if r == nil {
		return
	}
	o.mtx.Lock()
	spool := o.spool
	o.spool, o.holding = nil, false
	o.mtx.Unlock()
	o.say(func() { o.observer.Panicked(r) })
	o.signal()
	if spool != nil {
		defer func() { _ = recover() }() // the spool itself may be broken
		_ = spool.Close()
	}
}

// round runs all due work once, and returns the time until the next work without a nudge.
func (o *Outbox) round() time.Duration {
	if !o.opened() {
		return max(0, time.Until(o.retry))
	}
	o.mtx.Lock()
	todo := o.chores
	o.chores = chores{}
	o.mtx.Unlock()
	if len(todo.bury) > 0 {
		o.buryAll(todo.bury)
	}
	for _, l := range todo.write {
		o.write(l)
		o.moved.Add(1)
	}
	o.rotate()
	for _, l := range todo.read {
		o.read(l)
		o.moved.Add(1)
	}
	for _, l := range todo.settle {
		o.settleLog(l)
		o.moved.Add(1)
	}
	o.forgetOwed()
	o.over()
	return o.pause()
}

// rotate moves a lane with a failed write behind the others: a record without space would block smaller
// records forever.
func (o *Outbox) rotate() {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	if lanes := o.chores.write; o.trouble != nil && len(lanes) > 1 {
		o.chores.write = append(lanes[1:], lanes[0])
	}
}

// pause is how long the keeper may sleep.
func (o *Outbox) pause() time.Duration {
	o.mtx.Lock()
	defer o.mtx.Unlock()
	switch {
	case o.chores.none():
		return time.Hour
	case o.trouble == nil, len(o.chores.write) > 0 && !o.putOff(toWrite), len(o.chores.read) > 0 && !o.putOff(toRead):
		return 0
	}
	return max(0, time.Until(o.retry))
}

// opened opens the spool unless open.
func (o *Outbox) opened() bool {
	if o.spool != nil {
		return true
	}
	if time.Now().Before(o.retry) { // only the keeper writes it without a spool
		return false
	}
	opened, err := o.open()
	var dead spool.Log
	if err == nil {
		dead = opened.DeadLog()
	}
	o.mtx.Lock()
	o.holding = false
	var limits *spool.Limits
	if err == nil {
		o.spool, limits = opened, o.limits
		o.takeOver(opened.Logs())
		o.takeOverDead(dead)
	}
	o.mtx.Unlock()
	if limits != nil { // changed during the opening
		opened.Configure(*limits)
	}
	o.note(err, toOpen)
	o.signal()
	return err == nil
}

// read brings the next records of a lane's log into memory.
func (o *Outbox) read(l *lane) {
	o.mtx.Lock()
	l.listed.read = false
	from, wanted := l.read, l.read < l.next && l.ahead() < readAhead && !o.closing
	if wanted && l.again && o.putOff(toRead) {
		l.listed.read = true
		o.chores.read = append(o.chores.read, l)
		wanted = false
	}
	before := l.next
	most, bytes := readMost, readBytes
	if o.half() { // a thousand topics must not read as many times this amount into memory
		most, bytes = readLeast, readTight
	}
	if o.settings.QueueRecords > 0 { // leaves space for records in memory only
		most = min(most, max(1, o.settings.QueueRecords/4))
	}
	o.mtx.Unlock()
	if !wanted {
		return
	}
	records, positions, next, err := o.spool.Read(l.topic, from, most, bytes)
	if err == nil && next <= from {
		err = fmt.Errorf("nothing at position %d of topic %s, whose log goes on to %d", from, l.topic, before)
	}
	if err != nil {
		o.note(err, toRead)
		o.mtx.Lock()
		if l.again = true; !l.listed.read {
			l.listed.read = true
			o.chores.read = append(o.chores.read, l)
		}
		o.mtx.Unlock()
		return
	}
	l.again = false
	gone := o.loaded(l, records, positions, min(next, before))
	o.say(func() { o.tell(gone) })
	o.signal()
}

// settleLog passes the end of a lane's records with an outcome to the spool.
func (o *Outbox) settleLog(l *lane) {
	o.mtx.Lock()
	l.listed.settle = false
	told, before := l.told, l.from
	l.told = before
	full := errors.Is(o.failing[toWrite], spool.ErrFull)
	o.mtx.Unlock()
	err := o.spool.Settle(l.topic, before)
	if err != nil {
		o.note(err, toSettle)
	}
	o.mtx.Lock()
	defer o.mtx.Unlock()
	switch {
	case err == nil && full: // there may be room now
		o.retry = time.Now()
	case err != nil:
		l.told = told
		if !l.listed.settle {
			l.listed.settle = true
			o.chores.settle = append(o.chores.settle, l)
		}
	}
}

// Usage returns the state of the disk; ok = false without a disk. trouble is why the spool is unusable for
// now.
func (o *Outbox) Usage() (usage spool.Usage, trouble error, ok bool) {
	o.mtx.Lock()
	spool, trouble, ok := o.spool, o.trouble, o.spooling()
	o.mtx.Unlock()
	if spool != nil {
		usage = spool.Usage()
	}
	return usage, trouble, ok
}

// Adjust changes settings without a change of the client, also of a swap in progress. limits are the spool's.
func (o *Outbox) Adjust(change func(*Settings), limits spool.Limits) {
	o.mtx.Lock()
	change(&o.settings)
	if o.next != nil {
		change(&o.next.settings)
	}
	for _, l := range o.lanes { // waiting records profit from longer limits; earlier promises stay
		if o.spooling() && l.memory() > 0 {
			l.strictest = max(l.strictest, o.settings.Durability)
		}
		if l.strictest == record.Disk && !l.durable {
			o.makeDurable(l)
		}
	}
	spool := o.spool
	o.limits = &limits
	o.spillFull()
	o.mtx.Unlock()
	if spool != nil {
		spool.Configure(limits)
	}
	o.nudge()
	o.signal()
}
