// Package outbox takes every accepted record of a connection to exactly one outcome.
//
// Records enter by Accept and wait in one queue per topic, in the order in which they were accepted. A feeder keeps at
// most a window of each topic's records inside the client. What comes back from there is acknowledged, refused for
// good, out of time, or to be tried again; in the last case the topic stops being fed until the client has returned
// all of it, the records go back to their place in order, and after a backoff a single record probes the way.
//
//	            Accept                feeder                    the client's answer
//	(accepted) ───────► waiting ─────────────► sending ──────► acknowledged
//	                     │  ▲                     │  └───────► dropped: refused by the broker, or out of time
//	                     │  └──── try again ◄─────┘
//	                     └──────► dropped: out of time, or given up when the engine stops
//
// A topic's lane is volatile or durable. Of a durable one every record is written to the topic's log on disk by the
// keeper, while the feeder goes on sending; memory is then only the part of the log that is sent next, nothing falls
// due, and what a stop finds is left on disk. What makes a lane durable is said in durable.go.
//
// At every moment accepted = acknowledged + waiting + sending + spooled + dead letters + dropped, for each topic.
package outbox

import (
	"errors"
	"sync/atomic"
	"time"
)

// Record is one record on its way to Kafka. Nil and empty are different things for Key, Value and a header's Value:
// nil is Kafka's null, empty is an empty value. Whoever is given one by the outbox must not change its bytes, and must not
// look at it any more after its outcome: then it is used again. The fields stand in the order of use, 64 bytes of a processor's cache at a
// time: what a client needs, and what an outcome does.
type Record struct {
	Topic string
	Key   []byte
	Value []byte

	Headers  []Header
	Accepted time.Time     // when the caller's produce accepted it: the record's timestamp, and where its deadline counts from
	Lifetime time.Duration // how long it may take; 0 = the connection's message_timeout_ms
	lane     *lane

	Charge int64 // what it counts against the stage's limits until the Gate releases it, bytes

	// Staged, if not nil, is the state of the frame that the record was staged as. It is the Gate's: whoever implements
	// Release says in it that the frame is not needed any more.
	Staged *atomic.Uint32

	// Report, if not nil, is called once with the record and its outcome: nil for acknowledged. It runs on a goroutine
	// of the outbox or of the client and must not block. Opaque is for its use.
	Report func(r *Record, err error)

	// Where the record stands, set by the Transport with a nil outcome; the offset is -1 when no broker said it.
	Partition int32
	Refusals  int32 // how often a broker refused it for now, counted by the Transport
	Offset    int64

	chunk *chunk // that it goes back with, to be used again; nil = it is the garbage collector's
	home  *chunk // that its bytes belong to although it does not go back
	sent  int64  // its size while it is inside the client

	Durability Durability // Unsaid = the connection's
	Probe      bool       // a test message: in no account and no log, whatever becomes of it
	Lasting    bool       // the frame in Staged outlives Asterisk's process: the next start finds it

	inFlight bool   // is inside the client
	toWrite  bool   // is in lane.write or being written
	behind   bool   // is there only, not to be sent from there
	givenUp  giveUp // whether it was on disk and was given up there
	released bool   // the gate has been told
	settled  bool   // has its outcome

	Opaque    uint64
	seq       uint64        // its place in its lane's order
	born      time.Duration // when it was accepted, on the outbox's clock
	position  uint64        // in the topic's log; 0 = not on disk
	nextSent  *Record
	priorSent *Record
	Stored    time.Duration // since when it is on disk, on the spool's clock, set by Read
}

// giveUp says why a record is on disk no longer although it has no outcome.
type giveUp int8

const (
	notGivenUp giveUp = iota
	crowdedOut        // by a full spool
	purged            // by an administrator
)

// Header is one record header.
type Header struct {
	Name  string
	Value []byte
}

// size is what the record weighs inside the client.
func (r *Record) size() int { return len(r.Key) + len(r.Value) }

// Withdrawn says whether an earlier record of the same topic has come back to be tried again while this one was on its
// way into the client. If so a Transport must not start on it, or it would overtake, but fail it like the other. It may
// be called within Send only, costs one atomic load, and need not be asked again once a record is under way. A record
// that an outbox does not have is never withdrawn.
func (r *Record) Withdrawn() bool { return r.lane != nil && r.lane.withdrawn.Load() }

// Transport carries records to Kafka: a client of one connection. internal/kafka implements it on franz-go, the
// tests of this package with a fake.
type Transport interface {
	// Send starts carrying a batch of records, in order per topic and key: when one fails in a way that allows to try
	// again, none of its key that came after it reaches Kafka before it comes again. It asks each record's Withdrawn
	// just before starting on it. done is called exactly once for every record, from any goroutine, in any order, possibly before Send returns; it does not block. err is nil once
	// the broker has acknowledged the record. No attempt outlives deadline by more than a second or so unless
	// the client cannot tell whether the broker has it (idempotence). Send itself may block, and Close may be
	// called while it does: it then answers every record and returns. A record and its bytes must not be looked at once
	// done has been called for it and Send has returned, whichever is later: they are used again.
	Send(records []*Record, deadline time.Time, done func(r *Record, err error))

	// Permanent says whether trying again could never help a record that failed with err, and if so names the
	// reason in a word or two that serves as the name of a counter.
	Permanent(err error) (reason string, permanent bool)

	// Close gives up whatever is under way, promptly; every missing done call has been made, and every done call
	// has returned, before it returns.
	Close()
}

// Refusal is what an error of a Transport may be too: a broker refused the record, and a later attempt may succeed. It is the
// outcome of a record with a lifetime of its own, whose owner waits for an answer; every other record waits. Refused returns the
// reason in a word or two, or nothing if the error is no refusal.
type Refusal interface {
	error
	Refused() string
}

// recaller is what a Transport may be too: Recall asks for the records back that it need not keep, because another one
// takes its place. It does not block.
type recaller interface{ Recall() }

// limitedCloser is what a Transport may be too: Close with a limit.
type limitedCloser interface{ CloseWithin(limit time.Duration) }

// Reasons for dropping a record that the outbox itself knows; a Transport adds the broker's.
const (
	ReasonExpired   = "message timeout"
	ReasonStopped   = "engine stopped"
	ReasonQueueFull = "queue full"               // one of an event source that keeps its records in memory beside others that do not
	ReasonSpoolFull = "spool full"               // the oldest, with spool_full = drop_oldest
	ReasonTooOld    = "expired"                  // spool_max_hours
	ReasonDamaged   = "damaged"                  // cannot be read back from the disk
	ReasonPurged    = "purged"                   // by an administrator
	ReasonDeadFull  = "no room for dead letters" // the oldest dead letters, which may take an eighth of spool_max_mbytes
)

// ErrSpooled is what a report says of a record that a stop found unsent and that is on disk: it will be sent after the
// next start.
var ErrSpooled = errors.New("kept in the spool until the next start")
