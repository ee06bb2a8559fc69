// Package record has the record of the engine: its fields, its durability, its reasons for outcomes, and the
// encoding of its key, value and headers.
package record

import (
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
	Hold     *atomic.Bool  // true: an earlier record of the topic is back for a retry, see Held. Nil = never

	Fields []byte // Key, Value and Headers in their encoding; nil = not encoded yet
	Charge int64  // charge against the stage's limits until the release of the frame, bytes

	// Staged, if not nil, is the state of the record's frame. The frame is marked there as no longer needed.
	Staged *atomic.Uint32

	// Report, if not nil, is called once with the record and its outcome: nil for acknowledged. It runs on a
	// goroutine of the outbox or of the client, and must neither block nor read Key, Value, Headers and Fields,
	// which may be gone. Opaque is for its use.
	Report func(r *Record, err error)
	Opaque uint64

	// Place of the record, set by the client with a nil outcome; the offset is -1 if no broker reported it.
	Partition int32
	Refusals  int32 // number of a broker's temporary refusals, counted by the client
	Offset    int64

	Stored     time.Duration // time of storage, on the spool's clock, set by the spool's Read
	Durability Durability    // Unsaid = the connection's
	Probe      bool          // a test message: outside all accounts and logs
	Lasting    bool          // the frame in Staged outlives Asterisk's process: the next start finds it
}

// Header is a record header.
type Header struct {
	Name  string
	Value []byte
}

// Held reports whether an earlier record of the same topic has come back for a retry. A client must fail the
// record then instead of starting it, because it would overtake. Held may be called within the client's Send
// only, costs an atomic load, and need not be repeated for a started record.
func (r *Record) Held() bool { return r.Hold != nil && r.Hold.Load() }

// Size returns the bytes of key and value: the record's weight inside the client.
func (r *Record) Size() int { return len(r.Key) + len(r.Value) }

// Weight returns the bytes of key, value and headers.
func (r *Record) Weight() int {
	n := r.Size()
	for i := range r.Headers {
		n += len(r.Headers[i].Name) + len(r.Headers[i].Value)
	}
	return n
}

// Own replaces the bytes of the record with copies, in their encoding.
func (r *Record) Own() {
	b := r.AppendFields(make([]byte, 0, r.FieldsSize()))
	r.Headers = nil // others may have the slice
	r.ReadFields(b)
}

// DeadLetter is a record that will not be sent, with the reason.
type DeadLetter struct {
	Record *Record
	Reason string // name of its counter
	Cause  string // the broker's words, or empty
	At     time.Time

	Position uint64 // in the log of dead letters, set by the spool
}

// Durability is the safety of a record without an outcome.
type Durability int8

// The values of the option durability. The strictest request of a topic's records counts until the topic's
// queue is empty.
const (
	Unsaid   Durability = iota // of a record: the connection's; of a connection: Memory
	Memory                     // in memory only: dropped at the deadline or at the outbox's close
	Overflow                   // in memory, and on disk rather than lost
	Disk                       // on disk at once
)

// DurabilityOf reads a value of the option; anything else is Unsaid.
func DurabilityOf(word string) Durability {
	switch word {
	case "memory":
		return Memory
	case "overflow":
		return Overflow
	case "disk":
		return Disk
	}
	return Unsaid
}
