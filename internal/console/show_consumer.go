package console

import (
	"fmt"
	"strconv"
	"strings"
	"time"

	"reskafka/internal/config"
)

var showConsumer = Command{
	Words:   "kafka show consumer",
	Summary: "Show a Kafka consumer",
	Usage: "Usage: kafka show consumer <name>\n" +
		"       Shows the consumer of a connection of kafka.conf that has a group_id: its brokers, its last\n" +
		"       error, and how far each partition that it is assigned was read. Stable is where the first\n" +
		"       open transaction begins: messages from there on wait for its end.\n",
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

// writeMember prints one subscription of a consumer.
func writeMember(b *strings.Builder, m MemberStatus, now time.Time) {
	b.WriteString("\nSubscription to " + printable(strings.Join(m.Topics, ", ")) + ":\n")
	state := "not a member of the group"
	if m.Joined {
		state = "member of the group, " + plural(uint64(len(m.Partitions)), "partition")
	}
	item(b, "State", state)
	if m.SkippedBatches > 0 {
		item(b, "Stepped over", fmt.Sprintf("%d unreadable batch(es), %d offset(s)", m.SkippedBatches, m.SkippedOffsets))
	}
	if m.LastError != "" {
		text := printable(m.LastError)
		if !m.LastErrorAt.IsZero() {
			text = age(now.Sub(m.LastErrorAt)) + " ago: " + text
		}
		item(b, "Last error", text)
	}
	b.WriteString("\nBrokers in use:\n")
	writeBrokers(b, m.Brokers, now)
	if len(m.Partitions) > 0 {
		b.WriteString("\n" + partitionTable(m.Partitions))
	}
}

func partitionTable(partitions []PartitionStatus) string {
	offset := func(n int64) string {
		if n < 0 {
			return "-"
		}
		return strconv.FormatInt(n, 10)
	}
	var rows [][]string
	for _, p := range partitions {
		lag := int64(-1)
		if p.Position >= 0 && p.End >= 0 {
			lag = max(p.End-p.Position, 0)
		}
		rows = append(rows, []string{
			printable(p.Topic), strconv.Itoa(int(p.Partition)), offset(p.Position), offset(p.Stable), offset(p.End), offset(lag), p.state(),
		})
	}
	number := func(title string) column { return column{title: title, least: len(title) + 2, most: 24, right: true} }
	return table([]column{
		{title: "Topic", least: 26, most: 60},
		number("Partition"), number("Position"), number("Stable"), number("End"), number("Lag"),
		{title: "State"},
	}, rows)
}

// state says in words what keeps a partition from being read on.
func (p *PartitionStatus) state() string {
	switch {
	case p.Fault != "":
		return "paused: " + printable(p.Fault)
	case p.Paused:
		return "held back by the module"
	case p.Stable >= 0 && p.Position >= p.Stable && p.Stable < p.End:
		return "waits for an open transaction"
	}
	return "read"
}
