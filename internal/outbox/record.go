// Package outbox takes every accepted record of a connection to exactly one outcome.
package outbox

import "time"

// Record is one record on its way to Kafka. Nil and empty are different things for Key, Value and a header's
// Value: nil is Kafka's null, empty is an empty value. The byte slices belong to the outbox until the outcome.
type Record struct {
	Topic    string
	Key      []byte
	Value    []byte
	Headers  []Header
	Accepted time.Time // when the caller's produce accepted it; the record's timestamp, and where its deadline counts from

	seq      uint64 // place in the connection's order, given once
	attempts int
}

// Header is one record header.
type Header struct {
	Name  string
	Value []byte
}

// Transport carries records to Kafka: a client of one connection. internal/kafka implements it on franz-go, the
// tests of this package with a fake.
type Transport interface {
	// Send starts carrying a batch of records, in order per topic and key. done is called exactly once for every
	// record, from any goroutine, in any order, possibly before Send returns; it does not block. err is nil once
	// the broker has acknowledged the record. No attempt outlives deadline by more than a second or so unless
	// the client cannot tell whether the broker has it (idempotence). Send itself may block.
	Send(records []*Record, deadline time.Time, done func(r *Record, err error))

	// Permanent says whether trying again could never help the record that failed with err.
	Permanent(err error) bool

	// Close gives up whatever is under way; every missing done call is made before it returns.
	Close()
}
