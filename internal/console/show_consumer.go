package console

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/metrics"
)

var showConsumer = Command{
	Words:   "kafka show consumer",
	Summary: "Show a Kafka consumer",
	Usage: "Usage: kafka show consumer <name>\n" +
		"       Shows the consumer of a connection of kafka.conf that has a group_id: its membership, how\n" +
		"       long the module's callback takes, its last error, its brokers, and how far each partition\n" +
		"       that it is assigned was delivered. Stable and End are as of the last fetch, or a minute old\n" +
		"       while the module is busy. Stable is where the first open transaction begins: messages from\n" +
		"       there on wait for its end. A membership is joining, stable, paused by the module, left\n" +
		"       because a callback takes too long, or in error: no broker can be reached, or the group\n" +
		"       refuses the member.\n",
	Complete: func(env Env, before []string, word string) []string {
		rest := arguments("kafka show consumer", before)
		if rest == nil || len(rest) > 0 {
			return nil
		}
		return candidates(word, consumerNames(env)...)
	},
	Run: runShowConsumer,
}

func consumerNames(env Env) []string {
	var names []string
	for _, c := range env.Consumers() {
		names = append(names, c.Name)
	}
	return names
}

func runShowConsumer(env Env, args []string) (string, bool) {
	rest := arguments("kafka show consumer", args)
	if len(rest) != 1 {
		return "", false
	}
	c, ok, answer := findConsumer(env, rest[0])
	if !ok {
		return answer, true
	}
	var b strings.Builder
	line(&b, "Name", printable(c.Name))
	line(&b, "Group ID", printable(c.GroupID))
	line(&b, "Subscribed", yesNo(c.Subscribed))
	for _, m := range c.Members {
		writeMember(&b, m, env.Now())
	}
	return b.String(), true
}

// findConsumer finds the consumer of a connection; else answer says why there is none.
func findConsumer(env Env, name string) (c ConsumerStatus, ok bool, answer string) {
	for _, c := range env.Consumers() {
		if config.NameKey(c.Name) == config.NameKey(name) {
			return c, true, ""
		}
	}
	if _, ok := env.Connection(name); !ok {
		return c, false, noConnection(env, name)
	}
	return c, false, Failure("Connection " + printable(name) + " does not consume: it has no group_id in kafka.conf\n")
}

// writeMember prints a subscription of a consumer.
func writeMember(b *strings.Builder, m MemberStatus, now time.Time) {
	b.WriteString("\nSubscription to " + printable(strings.Join(m.Topics, ", ")) + ":\n")
	state := "not a member of the group"
	if m.Joined {
		state = "member of the group, " + plural(m.Numbers.Sum(metrics.Assigned), "partition")
	}
	item(b, "State", state)
	writeMembership(b, m, now)
	writeDelivery(b, m.Numbers)
	if batches := m.Numbers.Sum(metrics.SkippedBatches); batches > 0 {
		offsets := m.Numbers.Sum(metrics.SkippedOffsets)
		item(b, "Stepped over", fmt.Sprintf("%d unreadable batch(es), %d offset(s)", batches, offsets))
	}
	writeLastError(b, m.LastError, m.Numbers, now)
	b.WriteString("\nBrokers in use:\n")
	writeBrokers(b, m.Brokers, now)
	if len(m.Partitions) > 0 {
		b.WriteString("\n" + partitionTable(m))
	}
}

// writeMembership prints the state of a subscription in its group.
func writeMembership(b *strings.Builder, m MemberStatus, now time.Time) {
	text := m.State
	if at := m.Numbers.Time(metrics.LastRebalance); !at.IsZero() {
		assignments := plural(m.Numbers.Sum(metrics.Rebalances), "assignment")
		text += fmt.Sprintf(", %s, last rebalance %s ago", assignments, age(now.Sub(at)))
	}
	item(b, "Membership", text)
	if m.MemberID != "" {
		item(b, "Member ID", printable(m.MemberID))
	}
}

// writeDelivery prints the number of delivered messages and the duration of the module's callback.
func writeDelivery(b *strings.Builder, v *metrics.Values) {
	item(b, "Delivered", plural(v.Sum(metrics.Delivered), "message"))
	var text []string
	if _, ok := v.Get(metrics.CallbackLast); ok {
		text = append(text, took(v.Duration(metrics.CallbackLast))+" on average in the last batch")
	}
	if _, ok := v.Get(metrics.CallbackMax); ok {
		text = append(text, took(v.Duration(metrics.CallbackMax))+" at most")
	}
	if _, ok := v.Get(metrics.CallbackRunning); ok {
		text = append(text, "one runs for "+took(v.Duration(metrics.CallbackRunning)))
	}
	if text != nil {
		item(b, "Callback", strings.Join(text, ", "))
	}
}

// maxPartitionRows limits the table of a consumer with very many partitions to the size of a terminal.
const maxPartitionRows = 50

func partitionTable(m MemberStatus) string {
	var rows [][]string
	rest := m.Numbers.Sum(metrics.Lag)
	for _, p := range m.Partitions[:min(len(m.Partitions), maxPartitionRows)] {
		v := m.Numbers.At(metrics.Topic, p.Topic).At(metrics.Partition, strconv.Itoa(int(p.Partition)))
		row := []string{printable(p.Topic), strconv.Itoa(int(p.Partition))}
		for _, c := range partitionColumns {
			row = append(row, cellIfKnown(v, c.metrics[0]))
		}
		rows = append(rows, append(row, p.state(v)))
		rest -= v.Sum(metrics.Lag)
	}
	columns := []column{{title: "Topic", least: 26, most: 60}, numberColumn("Partition")}
	for _, c := range partitionColumns {
		columns = append(columns, numberColumn(c.title))
	}
	text := table(append(columns, column{title: "State"}), rows)
	if more := len(m.Partitions) - len(rows); more > 0 {
		text += fmt.Sprintf("and %s, with a lag of %d\n", plural(uint64(more), "more partition"), rest)
	}
	return text
}

var partitionColumns = []count{
	number("Position", metrics.Position), number("Stable", metrics.StableOffset), number("End", metrics.HighWatermark),
	number("Lag", metrics.Lag), number("Committed", metrics.Committed),
}

// cellIfKnown is a number as a cell of a table, a hyphen if there is none.
func cellIfKnown(v *metrics.Values, m *metrics.Metric) string {
	n, ok := v.Get(m)
	if !ok {
		return "-"
	}
	return strconv.FormatUint(n, 10)
}

// state describes the obstacle to a partition's reading. v has its numbers.
func (p *PartitionStatus) state(v *metrics.Values) string {
	position, placed := v.Get(metrics.Position)
	stable, known := v.Get(metrics.StableOffset)
	end, _ := v.Get(metrics.HighWatermark)
	switch {
	case p.Fault != "":
		return "paused: " + printable(p.Fault)
	case p.Paused:
		return "held back by the module"
	case placed && known && position >= stable && stable < end:
		return "waits for an open transaction"
	}
	return "read"
}
