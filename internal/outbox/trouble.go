package outbox

import (
	"cmp"
	"fmt"
	"time"
)

// chore is a kind of the keeper's work.
type chore int

const (
	toOpen chore = iota
	toBury
	toWrite
	toRead
	toSettle
	toClose
)

// doing names the chores in errors.
var doing = [...]string{
	"opening the spool", "writing dead letters", "writing to the spool", "reading the spool", "settling in the spool",
	"closing the spool",
}

// note records that work on the disk fails, or succeeds again, and notifies the observer of a change.
func (o *Outbox) note(err error, what chore) {
	if err != nil {
		err = fmt.Errorf("%s: %w", doing[what], err)
	}
	o.mtx.Lock()
	o.failing[what] = err
	changed := o.sumUp(err)
	if err != nil {
		o.retry = time.Now().Add(spoolRetry)
	}
	trouble := o.trouble
	o.mtx.Unlock()
	if changed || err != nil {
		o.say(func() { o.observer.Spooling(trouble) })
	}
}

// sumUp reports whether a trouble began or ended: latest, or another failing chore.
func (o *Outbox) sumUp(latest error) (changed bool) {
	for _, err := range o.failing {
		latest = cmp.Or(latest, err)
	}
	changed = (latest == nil) != (o.trouble == nil)
	o.trouble = latest
	return changed
}

// putOff reports whether a failed chore is not due for a retry yet.
func (o *Outbox) putOff(what chore) bool { return o.failing[what] != nil && time.Now().Before(o.retry) }

// over ends the troubles of chores without work: failing work stays on the lists.
func (o *Outbox) over() {
	o.mtx.Lock()
	changed := false
	if o.trouble != nil {
		todo := o.chores
		for what, left := range [...]int{toBury: len(todo.bury), toWrite: len(todo.write), toRead: len(todo.read), toSettle: len(todo.settle)} {
			if left == 0 && chore(what) != toOpen {
				o.failing[what] = nil
			}
		}
		changed = o.sumUp(nil)
	}
	o.mtx.Unlock()
	if changed {
		o.say(func() { o.observer.Spooling(nil) })
	}
}
