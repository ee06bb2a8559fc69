package console

import (
	"cmp"
	"slices"
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

	Implausible uint64 // responses and record batches of brokers that were refused because they cannot be true

	LastError   string    // why a message was last retried or dropped; empty = never
	LastErrorAt time.Time // when that was
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

// Counters says where accepted messages are: Accepted = Acknowledged + Waiting + Sending + Spooled + everything Dead + everything
// Dropped. Test messages are not counted.
// A message that is on disk is one of Spooled until it has its outcome, also while it is being sent.
type Counters struct {
	Accepted     uint64
	Restored     uint64 // of Accepted, those that an earlier run of Asterisk had accepted and left behind
	Acknowledged uint64
	Waiting      uint64        // for their turn
	Sending      uint64        // handed to the client and not answered yet; commands show them among the waiting
	Spooled      uint64        // on disk
	Dead         []ReasonCount // dead letters that there are, by reason
	Dropped      []ReasonCount // by reason, in the order to print
	Retried      uint64        // attempts that failed and are made again; the messages are counted above
}

// TopicStatus is the counters of one topic. Those without a topic are of dead letters that earlier runs left.
type TopicStatus struct {
	Topic string
	Counters
	Trouble string    // why its messages wait, by what brokers say; empty = nothing that has lasted
	Since   time.Time // since when that has been so
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
	Topics         []string // as subscribed
	Joined         bool     // it has its assignment
	Brokers        []BrokerState
	Partitions     []PartitionStatus // assigned, in the order to print
	SkippedBatches uint64            // unreadable, stepped over
	SkippedOffsets uint64            // that they cover
	LastError      string            // empty = none
	LastErrorAt    time.Time
}

// PartitionStatus is how far an assigned partition was read. A negative offset is not known.
type PartitionStatus struct {
	Topic     string
	Partition int32
	Position  int64 // of the next message to be delivered or fetched
	Stable    int64 // last stable offset
	End       int64 // of the log
	Paused    bool  // by the module
	Fault     string
}

// Reasons puts counts by reason into the order in which they are printed: the most frequent first.
func Reasons(counts map[string]uint64) []ReasonCount {
	var out []ReasonCount
	for reason, count := range counts {
		out = append(out, ReasonCount{reason, count})
	}
	slices.SortFunc(out, func(a, b ReasonCount) int {
		return cmp.Or(cmp.Compare(b.Count, a.Count), cmp.Compare(a.Reason, b.Reason))
	})
	return out
}

// Total adds up the counters of topics.
func Total(topics []TopicStatus) Counters {
	var total Counters
	dead, dropped := map[string]uint64{}, map[string]uint64{}
	for _, t := range topics {
		total.Accepted += t.Accepted
		total.Restored += t.Restored
		total.Acknowledged += t.Acknowledged
		total.Waiting += t.Waiting
		total.Sending += t.Sending
		total.Spooled += t.Spooled
		total.Retried += t.Retried
		for _, r := range t.Dead {
			dead[r.Reason] += r.Count
		}
		for _, r := range t.Dropped {
			dropped[r.Reason] += r.Count
		}
	}
	total.Dead, total.Dropped = Reasons(dead), Reasons(dropped)
	return total
}

// pending counts the messages whose outcome is still open.
func (c *Counters) pending() uint64 { return c.Waiting + c.Sending }

// sum adds up the counts.
func sum(reasons []ReasonCount) uint64 {
	var total uint64
	for _, r := range reasons {
		total += r.Count
	}
	return total
}
