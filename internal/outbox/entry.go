package outbox

import (
	"time"
	"unsafe"

	"reskafka/internal/record"
)

// entry is a record in memory, with the outbox's state.
type entry struct {
	record.Record // first, see entryOf

	lane  *lane
	chunk *chunk // chunk for reuse; nil = left to the garbage collector
	home  *chunk // chunk of its bytes, for a record without reuse
	sent  int64  // size while inside the client

	inFlight bool   // is inside the client
	toWrite  bool   // is in lane.write or being written
	behind   bool   // is there only, not to be sent from there
	givenUp  giveUp // whether the record was dropped on disk
	released bool   // the gate has been told
	settled  bool   // has its outcome
	borrowed bool   // the bytes lie in the frame of Staged, which is released with the outcome

	seq       uint64        // index in its lane's order
	born      time.Duration // time of acceptance, on the outbox's clock
	position  uint64        // in the topic's log; 0 = not on disk
	nextSent  *entry
	priorSent *entry
}

// giveUp is why a record without an outcome is no longer on disk.
type giveUp int8

const (
	notGivenUp giveUp = iota
	crowdedOut        // by a full spool
	purged            // by an administrator
)

// entryOf returns the entry of a record inside the client: the record is its first field.
func entryOf(r *record.Record) *entry { return (*entry)(unsafe.Pointer(r)) }

// entriesOf is entryOf for many records, without a copy.
func entriesOf(records []*record.Record) []*entry {
	return unsafe.Slice((**entry)(unsafe.Pointer(unsafe.SliceData(records))), len(records))
}

// own copies the bytes of a record out of shared memory: the record no longer needs its frame. Caller must hold
// mtx, and the client must not have the record.
func (r *entry) own() {
	if r.borrowed {
		r.borrowed = false
		r.Own()
	}
}

// clone copies a record and its bytes.
func (r *entry) clone() *entry {
	own := *r
	own.chunk, own.home = nil, nil
	own.Own()
	return &own
}
