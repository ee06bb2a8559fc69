package console

import (
	"cmp"
	"slices"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/metrics"
)

// ConnectionStatus is what a command shows of one connection: its options and how it is doing.
type ConnectionStatus struct {
	Name     string
	Brokers  string           // the bootstrap list, as kafka show status prints it
	Settings []config.Setting // every option with its value, in the order to print; secrets hidden

	Numbers *metrics.Values // of the connection, its brokers and its topics

	States    []BrokerState     // the brokers in touch with so far; empty before the first contact
	Troubles  map[string]string // why the messages of a topic wait, by topic, in the words of brokers
	LastError string            // why a message was last retried or dropped; empty = never
}

// BrokerState says whether there is a connection to one broker.
type BrokerState struct {
	Address    string    // host:port
	Connected  bool      // now
	Connecting time.Time // when the attempt to connect began that is under way; zero = none is
	Idle       bool      // not connected because nothing is to be sent
	Unneeded   bool      // not connected, and nothing goes there any more
	Since      time.Time // since when it is as it is; zero = not known
	LastError  string    // why it is not connected; empty = not known
	Throttled  time.Time // it asked for no requests before then; zero = it did not
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
	Members    []MemberStatus
}

// MemberStatus is one subscription of a connection: a member of its group.
type MemberStatus struct {
	Numbers *metrics.Values // of the subscription, its brokers and its partitions

	Topics     []string // as subscribed
	State      string   // joining, stable, paused, left or error
	MemberID   string   // in the group; empty = none yet
	Joined     bool     // it has its assignment
	Brokers    []BrokerState
	Partitions []PartitionStatus // assigned, in the order to print
	LastError  string            // empty = none
}

// PartitionStatus says why an assigned partition is not read on.
type PartitionStatus struct {
	Topic     string
	Partition int32
	Paused    bool   // by the module
	Fault     string // why it cannot be read; empty = it can
}

// byFrequency puts counts by reason into the order in which they are printed: the most frequent first.
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
