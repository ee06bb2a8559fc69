package console

import (
	"time"

	"reskafka/internal/config"
)

// ConnectionStatus is what a command shows of one connection: its options and how it is doing.
type ConnectionStatus struct {
	Name     string
	Brokers  string           // the bootstrap list, as kafka show status prints it
	Settings []config.Setting // every option with its value, in the order to print; secrets hidden

	States  []BrokerState // the brokers in touch with so far; empty before the first contact
	Totals  Counters      // of all topics
	Topics  []TopicStatus // in any order
	Refused []ReasonCount // what produce refused and never accepted, by reason, in the order to print

	LastError   string    // why a message was last retried or dropped; empty = never
	LastErrorAt time.Time // when that was
}

// BrokerState says whether there is a connection to one broker.
type BrokerState struct {
	Address   string    // host:port
	Connected bool      // now
	Since     time.Time // since when it is as it is; zero = not known
	LastError string    // why it is not connected; empty = not known
}

// Counters says where accepted messages are: Accepted = Acknowledged + Waiting + everything Dropped.
type Counters struct {
	Accepted     uint64
	Acknowledged uint64
	Waiting      uint64
	Dropped      []ReasonCount // by reason, in the order to print
	Retried      uint64        // attempts that failed and were made again; the messages are counted above
}

// TopicStatus is the counters of one topic.
type TopicStatus struct {
	Topic string
	Counters
}

// ReasonCount counts messages that have the same fate for the same reason.
type ReasonCount struct {
	Reason string // in words
	Count  uint64
}

// ConsumerStatus is what a command shows of a connection that can consume.
type ConsumerStatus struct {
	Name       string
	GroupID    string
	Subscribed bool // somebody is subscribed on it now
}

// sum adds up the counts.
func sum(reasons []ReasonCount) uint64 {
	var total uint64
	for _, r := range reasons {
		total += r.Count
	}
	return total
}
