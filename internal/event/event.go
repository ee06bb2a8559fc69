// Package event converts Asterisk's events (a call record, a channel event, a manager event, …) to records
// for Kafka: fields → encoder → topic, key, value, headers.
//
// A tap in C lists the fields of an event by name in the stage. Tables in this package choose the sent
// fields, their names and forms. No field's content causes a failure here: bytes outside UTF-8 are replaced
// one by one in JSON text and unchanged everywhere else.
package event

import (
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/record"
)

// Kind is the kind of a field's value. The numbers equal enum resk_field_kind in boundary/frame.h.
type Kind uint32

// The kinds of field.
const (
	Text     Kind = 0 // bytes in Text
	Integer  Kind = 1 // the number in Integer
	Time     Kind = 2 // the time in Time
	Variable Kind = 3 // bytes in Text, under a name the user chose
)

// Field is a named value of an event. Only the member named by Kind counts. A nil Text means "no value" and
// differs from an empty text.
type Field struct {
	Name    string
	Kind    Kind
	Text    []byte
	Integer int64
	Time    time.Time
}

// Message is an event for a connection's outbox. It owns its bytes: nothing refers to the event's fields.
// Messages of the same source share headers, which must not be modified.
type Message struct {
	Topic   string
	Key     []byte // nil = no key
	Value   []byte
	Headers []record.Header
}

// Source encodes the events of a tap by its configuration file. It is immutable: a reload opens a new Source.
// Safe for concurrent use.
type Source interface {
	// Connection is the name of the events' connection in kafka.conf.
	Connection() string
	// Topic is the topic of the events, to be created unless both of its numbers are 0.
	Topic() Topic
	// Durability is the durability of waiting events.
	Durability() record.Durability
	// Encode returns the message of an event. It borrows the fields until its return; now is the message's
	// timestamp header. An error means that the event cannot be published at all.
	Encode(fields []Field, now time.Time) (Message, error)
}

// Topic is a topic to create. A number of 0 is for the brokers to choose.
type Topic struct {
	Name                    string
	Partitions, Replication int
}

// Type describes a kind of source: a new tap adds a row.
type Type struct {
	Kind   string // name in resk_source_open
	Number uint32 // permanent number for frames of earlier runs: from 1, never reused
	Module string // C module of the tap, without .so
	File   string // configuration file for Open

	// Open reads the source's configuration. The source is nil if a problem forbids its use; problems beside
	// a source are warnings.
	Open func(entries []config.Entry, system host.System) (Source, []config.Problem)
}

// Sources lists every kind of source there is.
var Sources = []Type{
	{Kind: "cdr", Number: 1, Module: "cdr_kafka", File: config.CDRFile.Name, Open: openCDR},
}

// Lookup returns the kind of source with this name.
func Lookup(kind string) (Type, bool) {
	for _, t := range Sources {
		if t.Kind == kind {
			return t, true
		}
	}
	return Type{}, false
}
