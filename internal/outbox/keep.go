package outbox

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"
)

// keeping is what the keeper needs: the goroutine that does everything that may wait for the disk. Guarded by the
// outbox's mutex unless said otherwise.
type keeping struct {
	open    func() (Spool, error)    // nil = nothing is ever kept on disk
	spool   Spool                    // the keeper's; nil = not open
	holding bool                     // nothing is sent before it is known what the spool holds
	failing [chore(len(doing))]error // what cannot be done for now
	trouble error                    // one of these
	retry   time.Time                // when to try again
	limits  *SpoolLimits             // the latest, for when the spool is open
	owed    func() error             // forgets dead letters that were taken, once these are on disk elsewhere; the keeper's
	chores  chores
	writing writing

	toKeep chan struct{} // holds a token when the keeper has something to look at
	orders chan func()   // to be run by the keeper
	finish chan struct{} // closed when the keeper is to end
	kept   chan struct{} // closed when it has

	finishing sync.Once

	moved  atomic.Uint64 // counts what the keeper has got done
	saying sync.RWMutex  // held for reading over the keeper's calls to gate, observer and reports
	mute   bool          // under saying: there are to be none any more
}

// chores are what is to be done on disk, in this order: a record must not leave its log before it is a dead letter.
type chores struct {
	bury   []DeadLetter
	write  []*lane
	read   []*lane
	settle []*lane
}

// none says whether there is nothing to do.
func (c *chores) none() bool { return len(c.bury)+len(c.write)+len(c.read)+len(c.settle) == 0 }

// writing is what is being written just now.
type writing struct {
	lane  *lane
	batch []*Record
}

func (w *writing) of(l *lane) []*Record {
	if w.lane == l {
		return w.batch
	}
	return nil
}

// diskPatience is how long a disk may hang before others go on without it: what the spool may hold is not waited for any
// longer at the beginning, and at the end what is not written is given up.
const diskPatience = 3 * time.Second

// orderPatience is how long a command waits for the disk.
const orderPatience = 30 * time.Second

// say makes calls to gate, observer and reports for the keeper, which a hanging disk may keep from knowing that the outbox
// has been closed.
func (o *Outbox) say(calls func()) {
	o.saying.RLock()
	defer o.saying.RUnlock()
	if !o.mute {
		calls()
	}
}

// spoolRetry is how long the keeper waits before it tries again what failed.
const spoolRetry = time.Second

// lettersMost is how many dead letters wait in memory while the disk takes none; older ones are given up.
const lettersMost = 10_000

// Attach gives the outbox a disk: open is called by the keeper, on a goroutine of the outbox, and again every second while it
// fails. Nothing is sent before it has been tried once, because what the spool holds comes first, unless the disk hangs. What
// comes while it fails waits in memory and is written when it succeeds. A second call has no effect. The outbox closes the spool.
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

// letGo ends the wait for what the spool holds.
func (o *Outbox) letGo() {
	o.mtx.Lock()
	o.holding = false
	o.mtx.Unlock()
	o.signal()
}

// Attached says whether there is a disk.
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

// guardKeeper ends a panic of the keeper, which would end the engine. Nothing is kept on disk from then on, and the
// connection fails like one whose feeder has. The spool is closed, so that it is free for the next start.
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
		defer func() { _ = recover() }() // it may be what is broken
		_ = spool.Close()
	}
}

// round does what is to be done once, and says how long there is nothing to do unless somebody nudges.
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

// rotate puts the lane that could not be written behind the others, or one with a record that has no room would keep
// smaller ones from the disk for ever.
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

// opened opens the spool if that has not been done.
func (o *Outbox) opened() bool {
	if o.spool != nil {
		return true
	}
	if time.Now().Before(o.retry) { // only the keeper writes it while there is no spool
		return false
	}
	spool, err := o.open()
	var dead SpoolLog
	if err == nil {
		dead = spool.DeadLog()
	}
	o.mtx.Lock()
	o.holding = false
	var limits *SpoolLimits
	if err == nil {
		o.spool, limits = spool, o.limits
		o.takeOver(spool.Logs())
		o.takeOverDead(dead)
	}
	o.mtx.Unlock()
	if limits != nil { // changed while it was being opened
		spool.Configure(*limits)
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
	if o.half() { // so that a thousand topics do not bring as many times that into memory
		most, bytes = readLeast, readTight
	}
	if o.settings.QueueRecords > 0 { // leave room for what is in memory only
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

// settleLog tells the spool how far a lane's records have their outcome.
func (o *Outbox) settleLog(l *lane) {
	o.mtx.Lock()
	l.listed.settle = false
	told, before := l.told, l.from
	l.told = before
	full := errors.Is(o.failing[toWrite], ErrSpoolFull)
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

// Usage says what is on disk; ok = false when nothing is ever kept there. trouble is why the spool cannot be used for
// now.
func (o *Outbox) Usage() (usage SpoolUsage, trouble error, ok bool) {
	o.mtx.Lock()
	spool, trouble, ok := o.spool, o.trouble, o.spooling()
	o.mtx.Unlock()
	if spool != nil {
		usage = spool.Usage()
	}
	return usage, trouble, ok
}

// Adjust changes settings without changing the client, those of a swap under way too. limits are the spool's.
func (o *Outbox) Adjust(change func(*Settings), limits SpoolLimits) {
	o.mtx.Lock()
	change(&o.settings)
	if o.next != nil {
		change(&o.next.settings)
	}
	for _, l := range o.lanes { // what waits profits too; what was promised more keeps it
		if o.spooling() && l.memory() > 0 {
			l.strictest = max(l.strictest, o.settings.Durability)
		}
		if l.strictest == Disk && !l.durable {
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
