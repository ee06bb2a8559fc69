// Package outbox carries every accepted record of a connection to exactly one outcome.
//
// Records enter by Accept and wait in one queue per topic, in the order of acceptance. A feeder keeps at most
// a window of each topic's records inside the client. The client returns a record as acknowledged, refused
// permanently, expired, or to be retried. After a retry no record of the topic is fed until the client has
// returned all of them. The records then go back to their place in order, and after a backoff a single record
// probes the topic.
//
//	            Accept                feeder                    the client's answer
//	(accepted) ───────► waiting ─────────────► sending ──────► acknowledged
//	                     │  ▲                     │  └───────► dropped: refused by the broker, or out of time
//	                     │  └──── try again ◄─────┘
//	                     └──────► dropped: out of time, or given up when the engine stops
//
// A topic's lane is volatile or durable. The keeper writes every record of a durable lane to the topic's log
// on disk, in parallel with the feeder. Memory then has only the part of the log to be sent next, no record
// expires, and a stop leaves the records on disk. durable.go explains the transition.
//
// At every moment accepted = acknowledged + waiting + sending + spooled + dead letters + dropped, for each
// topic.
package outbox

import (
	"errors"
	"sync/atomic"
	"time"
)

// Record is a record on its way to Kafka. For Key, Value and a header's Value, nil is Kafka's null and
// differs from empty. A receiver of a record from the outbox must not change its bytes, and must not read the
// record after its outcome, because records are reused. The fields are in the order of use, 64 bytes of cache
// at a time: first the client's fields, then the outcome's.
type Record struct {
	Topic string
	Key   []byte
	Value []byte

	Headers  []Header
	Accepted time.Time     // time of the caller's produce: the record's timestamp, and the start of its deadline
	Lifetime time.Duration // limit of its life; 0 = the connection's message_timeout_ms
	lane     *lane

	Charge int64 // charge against the stage's limits until the Gate's release, bytes

	// Staged, if not nil, is the state of the record's frame, for the Gate: Release marks the frame there as
	// no longer needed.
	Staged *atomic.Uint32

	// Report, if not nil, is called once with the record and its outcome: nil for acknowledged. It runs on a
	// goroutine of the outbox or of the client, and must neither block nor read Key, Value and Headers, which
	// may be gone. Opaque is for its use.
	Report func(r *Record, err error)

	// Place of the record, set by the Transport with a nil outcome; the offset is -1 if no broker reported
	// it.
	Partition int32
	Refusals  int32 // number of a broker's temporary refusals, counted by the Transport
	Offset    int64

	chunk *chunk // chunk for reuse; nil = left to the garbage collector
	home  *chunk // chunk of its bytes, for a record without reuse
	sent  int64  // size while inside the client

	Durability Durability // Unsaid = the connection's
	Probe      bool       // a test message: outside all accounts and logs
	Lasting    bool       // the frame in Staged outlives Asterisk's process: the next start finds it

	inFlight bool   // is inside the client
	toWrite  bool   // is in lane.write or being written
	behind   bool   // is there only, not to be sent from there
	givenUp  giveUp // whether the record was dropped on disk
	released bool   // the gate has been told
	settled  bool   // has its outcome
	borrowed bool   // the bytes lie in the frame of Staged, which is released with the outcome

	Opaque    uint64
	seq       uint64        // index in its lane's order
	born      time.Duration // time of acceptance, on the outbox's clock
	position  uint64        // in the topic's log; 0 = not on disk
	nextSent  *Record
	priorSent *Record
	Stored    time.Duration // time of storage, on the spool's clock, set by Read
}

// giveUp is why a record without an outcome is no longer on disk.
type giveUp int8

const (
	notGivenUp giveUp = iota
	crowdedOut        // by a full spool
	purged            // by an administrator
)

// Header is a record header.
type Header struct {
	Name  string
	Value []byte
}

// size returns the record's weight inside the client.
func (r *Record) size() int { return len(r.Key) + len(r.Value) }

// Withdrawn reports whether an earlier record of the same topic has come back for a retry during this
// record's Send. If so, a Transport must fail the record instead of starting it, because it would overtake.
// Withdrawn may be called within Send only, costs an atomic load, and need not be repeated for a started
// record. A record without an outbox is never withdrawn.
func (r *Record) Withdrawn() bool { return r.lane != nil && r.lane.withdrawn.Load() }

// Transport carries records to Kafka: a client of one connection. internal/kafka implements it on franz-go,
// the tests of this package with a fake.
type Transport interface {
	// Send starts a batch of records, in order per topic and key: after a failure with a retry, no later
	// record of its key reaches Kafka before the retry. Send checks each record's Withdrawn right before its
	// start. done is called exactly once for every record, from any goroutine, in any order, possibly before
	// the return of Send; it does not block. err is nil after the broker's acknowledgement. No attempt
	// outlives deadline by more than a second or so, unless the client cannot know whether the broker has the
	// record (idempotence). Send may block. Close may be called meanwhile: Send then answers every record and
	// returns. The bytes of a record must not be read after its done, and the record not after both its done
	// and the return of Send, because they are reused.
	Send(records []*Record, deadline time.Time, done func(r *Record, err error))

	// Permanent reports whether no retry can help a record that failed with err, and returns a reason in a
	// word or two, usable as the name of a counter.
	Permanent(err error) (reason string, permanent bool)

	// Close promptly drops all records in flight; every due done call has been made and has returned before
	// the return of Close.
	Close()
}

// Refusal is an optional interface of a Transport's errors: a broker refused the record, and a later attempt
// may succeed. A Refusal is the outcome of a record with its own Lifetime, whose owner waits for an answer;
// every other record waits. Refused returns the reason in a word or two, or "" for other errors.
type Refusal interface {
	error
	Refused() string
}

// recaller is an optional interface of a Transport: Recall asks for the return of records before a
// replacement of the Transport. It never blocks.
type recaller interface{ Recall() }

// limitedCloser is an optional interface of a Transport: Close with a limit.
type limitedCloser interface{ CloseWithin(limit time.Duration) }

// Reasons of drops by the outbox itself; a Transport adds the broker's.
const (
	ReasonExpired    = "message timeout"
	ReasonStopped    = "engine stopped"
	ReasonQueueFull  = "queue full"               // a record of an event source in memory, beside records on disk
	ReasonSpoolFull  = "spool full"               // the oldest, with spool_full = drop_oldest
	ReasonTooOld     = "expired"                  // spool_max_hours
	ReasonDamaged    = "damaged"                  // cannot be read back from the disk
	ReasonUnreadable = "not encodable"            // the frame in shared memory is not what it was at the acceptance
	ReasonPurged     = "purged"                   // by an administrator
	ReasonDeadFull   = "no room for dead letters" // the oldest dead letters, which may take an eighth of spool_max_mbytes
)

// ErrSpooled is the report of an unsent record on disk at a stop: the record will be sent after the next
// start.
var ErrSpooled = errors.New("kept in the spool until the next start")
