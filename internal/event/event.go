// Package event turns what Asterisk reports (a call record, a channel event, a manager event, …) into a record for
// Kafka: fields → encoder → topic, key, value, headers.
//
// A tap in C lists the fields of one event by name and leaves them in the stage; which of them go out, under which
// name and in which form is decided here, by tables. Nothing in this package fails because of what a field holds:
// bytes that are not UTF-8 are replaced one by one in the JSON text and left alone everywhere else.
package event

import (
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/outbox"
)

// Kind says what a field's value is. The numbers are those of enum resk_field_kind in boundary/frame.h.
type Kind uint32

// The kinds of field.
const (
	Text     Kind = 0 // bytes in Text
	Integer  Kind = 1 // the number in Integer
	Time     Kind = 2 // the time in Time
	Variable Kind = 3 // bytes in Text, under a name the user chose
)

// Field is one named value of an event. Only the member that Kind names counts. A nil Text is "no value", which is
// not the same as an empty one.
type Field struct {
	Name    string
	Kind    Kind
	Text    []byte
	Integer int64
	Time    time.Time
}

// Message is an event on its way to a connection's outbox. Its bytes are its own: nothing in it refers to the fields
// it was made from. Its headers are shared by messages of the same source and must not be written to.
type Message struct {
	Topic   string
	Key     []byte // nil = no key
	Value   []byte
	Headers []outbox.Header
}

// Source makes messages of the events of one tap, as its configuration file says. It is immutable: a reload opens
// another one. Safe for use by several goroutines.
type Source interface {
	// Connection is the name of the connection in kafka.conf that the events are published on.
	Connection() string
	// Topic is the topic of the events, which is to be created unless both of its numbers are 0.
	Topic() Topic
	// Durability is how safe the events are to be while they wait for their delivery.
	Durability() outbox.Durability
	// Encode makes the message of one event. The fields are borrowed until it returns; now is what the message's
	// timestamp header says. An error means that the event cannot be published at all.
	Encode(fields []Field, now time.Time) (Message, error)
}

// Topic is a topic to create. A number of 0 is for the brokers to choose.
type Topic struct {
	Name                    string
	Partitions, Replication int
}

// Type describes a kind of source: the row of the table that a new tap adds.
type Type struct {
	Kind   string // its name in resk_source_open
	Number uint32 // the same for frames that a later run finds: from 1, and never another's
	Module string // the C module that taps it, without .so
	File   string // the configuration file that Open interprets

	// Open reads the source's configuration. The source is nil when the problems forbid to use it; problems
	// beside a source are warnings.
	Open func(entries []config.Entry, system host.System) (Source, []config.Problem)
}

// Sources lists every kind of source there is.
var Sources = []Type{
	{Kind: "cdr", Number: 1, Module: "cdr_kafka", File: config.CDRFile.Name, Open: openCDR},
}

// Lookup finds the kind of source of that name.
func Lookup(kind string) (Type, bool) {
	for _, t := range Sources {
		if t.Kind == kind {
			return t, true
		}
	}
	return Type{}, false
}
