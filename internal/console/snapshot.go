package console

import (
	"cmp"
	"slices"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/metrics"
)

// ConnectionStatus is the state of a connection for a command: options and numbers.
type ConnectionStatus struct {
	Name     string
	Brokers  string           // the bootstrap list, in the form of kafka show status
	Settings []config.Setting // every option with its value, in print order; secrets hidden

	Numbers *metrics.Values // of the connection, its brokers and topics

	States    []BrokerState     // the brokers in touch with so far; empty before the first contact
	Troubles  map[string]string // why the messages of a topic wait, by topic, in the words of brokers
	LastError string            // why a message was last retried or dropped; empty = never
}

// BrokerState is the state of the connection to a broker.
type BrokerState struct {
	Address    string    // host:port
	Connected  bool      // now
	Connecting time.Time // start of the running connection attempt; zero = none
	Idle       bool      // not connected because nothing is to be sent
	Unneeded   bool      // not connected, and no longer used
	Since      time.Time // start of the present state; zero = unknown
	LastError  string    // cause of a lost connection; empty = unknown
	Throttled  time.Time // end of the broker's throttling; zero = none
}

// ReasonCount counts messages with the same fate for the same reason.
type ReasonCount struct {
	Reason string // in words
	Count  uint64
}

// ConsumerStatus is the state of a consuming connection for a command.
type ConsumerStatus struct {
	Name       string
	GroupID    string
	Subscribed bool // a module is subscribed now
	Members    []MemberStatus
}

// MemberStatus is a subscription of a connection: a member of its group.
type MemberStatus struct {
	Numbers *metrics.Values // of the subscription, its brokers and partitions

	Topics     []string // as subscribed
	State      string   // joining, stable, paused, left or error
	MemberID   string   // in the group; empty = none yet
	Joined     bool     // with an assignment
	Brokers    []BrokerState
	Partitions []PartitionStatus // assigned, in the order to print
	LastError  string            // empty = none
}

// PartitionStatus says why an assigned partition is not read on.
type PartitionStatus struct {
	Topic     string
	Partition int32
	Paused    bool   // by the module
	Fault     string // obstacle to reading; empty = readable
}

// byFrequency sorts counts by reason for printing: the most frequent first.
func byFrequency(counts map[string]uint64) []ReasonCount {
	var out []ReasonCount
	for reason, count := range counts {
		out = append(out, ReasonCount{reason, count})
	}
	slices.SortFunc(out, func(a, b ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}
