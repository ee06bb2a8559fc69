package config

import (
	"crypto/sha256"
	"fmt"
	"io"
	"time"
)

// Secret is a value that must never be printed or logged. It renders as "***" (or as nothing when empty)
// through every fmt verb accepted by go vet, and through encoders; only Reveal returns the text.
type Secret string

// String implements fmt.Stringer.
func (s Secret) String() string {
	if s == "" {
		return ""
	}
	return "***"
}

// Format implements fmt.Formatter: without it, verbs for other types would show the secret in an error text.
func (s Secret) Format(f fmt.State, _ rune) {
	_, _ = io.WriteString(f, s.String())
}

// MarshalText implements encoding.TextMarshaler, for JSON and structured logs.
func (s Secret) MarshalText() ([]byte, error) { return []byte(s.String()), nil }

// Reveal returns the secret itself, for authentication.
func (s Secret) Reveal() string { return string(s) }

// Kafka is the content of kafka.conf. It is read-only after ParseKafka.
type Kafka struct {
	Enabled     bool
	Connections []*Connection // usable connections, in the order of the file
	LeftOut     []LeftOut     // sections with an error, in the order of the file
}

// Usable reports whether the configuration can run: it has a connection, or the administrator has disabled
// the module.
func (k *Kafka) Usable() bool { return !k.Enabled || len(k.Connections) > 0 }

// LeftOut is an unusable section of kafka.conf.
type LeftOut struct {
	Name string
	Why  string // first error
}

// Connection is a section of kafka.conf with every option filled in. It is read-only after ParseKafka.
type Connection struct {
	Name string
	File string // where the section stands, for messages
	Line int

	// An error in an option of one side does not end the other side. Empty = usable.
	NoProducer string // why nothing can be produced: the first error
	NoConsumer string // why nothing can be consumed

	Brokers             []string // host:port, a port on each
	brokersText         string   // the same as written, without blanks; may be empty in a value made by hand
	ClientID            string
	RequestTimeout      time.Duration
	MessageTimeout      time.Duration
	SocketTimeout       time.Duration
	ConnectionsMaxIdle  time.Duration
	ReconnectBackoff    time.Duration
	ReconnectBackoffMax time.Duration

	SecurityProtocol string // plaintext, ssl, sasl_plaintext, sasl_ssl
	SASLMechanism    string // PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 or empty
	SASLUsername     string
	SASLPassword     Secret
	CAFile           string
	CertificateFile  string
	KeyFile          string
	HostCheck        string // https or none: whether the name in a broker's certificate is checked

	// contents has a hash of each file above at its check, by the name of the option; options without a file
	// are missing.
	contents map[string][sha256.Size]byte

	MessageMaxBytes  int
	CompressionCodec string // none, gzip, snappy, lz4, zstd
	CompressionLevel int
	Linger           time.Duration
	BatchNumMessages int
	BatchSize        int
	RequestMaxBytes  int
	QueueMaxMessages int
	QueueMaxKbytes   int
	Acks             int
	Retries          int
	Idempotence      bool

	Durability     string        // memory, overflow, disk
	SpoolDir       string        // absolute and clean; empty = kafka below Asterisk's spool directory
	SpoolMaxMbytes int           // in units of 1 << 20 bytes
	SpoolSync      string        // always, interval, none
	SpoolFull      string        // refuse, drop_oldest
	SpoolMaxHours  int           // 0 = no limit
	FlushTimeout   time.Duration // how long a stop continues to deliver records in memory

	GroupID            string
	AutoOffsetReset    string // earliest, latest, none
	AutoCommit         bool
	AutoCommitInterval time.Duration
	SessionTimeout     time.Duration
	MaxPollInterval    time.Duration

	Debug []string // librdkafka's context names
}
