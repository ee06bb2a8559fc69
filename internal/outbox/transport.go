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
	"time"

	"reskafka/internal/record"
)

// Transport carries records to Kafka: a client of one connection. internal/kafka implements it on franz-go,
// the tests of this package with a fake.
type Transport interface {
	// Send starts a batch of records, in order per topic and key: after a failure with a retry, no later
	// record of its key reaches Kafka before the retry. Send checks each record's Held right before its
	// start. No attempt
	// outlives deadline by more than a second or so, unless the client cannot know whether the broker has the
	// record (idempotence). Send must not block: deadlines and the end wait for its return. Close may be called
	// meanwhile: Send then answers every record and returns. The bytes of a record must not be read after its outcome, and the record not after both its
	// outcome and the return of Send, because they are reused.
	Send(records []*record.Record, deadline time.Time)

	// AnswerTo sets the receiver of outcomes, before the first Send. answered gets records of one topic with the
	// same outcome, each record exactly once, from any goroutine, in any order, possibly before the return of
	// Send. err is nil after the broker's acknowledgement. answered does not block and does not keep the slice.
	AnswerTo(answered func(records []*record.Record, err error))

	// Permanent reports whether no retry can help a record that failed with err, and returns a reason in a
	// word or two, usable as the name of a counter.
	Permanent(err error) (reason string, permanent bool)

	// Close promptly drops all records in flight; every due outcome has been reported before
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

// distant is an optional interface of a Transport: Far reports whether brokers are so far that the usual window
// of a topic does not fill the link. It never blocks.
type distant interface{ Far() bool }

// limitedCloser is an optional interface of a Transport: Close with a limit.
type limitedCloser interface{ CloseWithin(limit time.Duration) }
