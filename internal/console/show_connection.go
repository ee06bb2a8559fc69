package console

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

var showConnection = Command{
	Words:   "kafka show connection",
	Summary: "Show a Kafka connection",
	Usage: "Usage: kafka show connection <name>\n" +
		"       Shows every option of a connection of kafka.conf, its brokers, and what became of the\n" +
		"       messages that were given to it: accepted = acknowledged + waiting + spooled\n" +
		"       (on disk) + dead letters + dropped. Test messages are not counted.\n",
	Complete: completeConnection("kafka show connection"),
	Run:      runShowConnection,
}

func runShowConnection(env Env, args []string) (string, bool) {
	rest := arguments("kafka show connection", args)
	if len(rest) != 1 {
		return "", false
	}
	c, ok := env.Connection(rest[0])
	if !ok {
		return noConnection(env, rest[0]), true
	}
	var b strings.Builder
	writeSettings(&b, c)
	now := env.Now()
	b.WriteString("\nBrokers in use:\n")
	writeBrokers(&b, c.States, now)
	b.WriteString("\nMessages:\n")
	writeCounters(&b, c, now)
	if s, ok := env.Spool(c.Name); ok {
		item(&b, "Spool", s.summary(now))
	}
	if len(c.Topics) > 0 {
		b.WriteString("\n" + topicTable(c.Topics))
		writeTroubles(&b, c.Topics, now)
	}
	return b.String(), true
}

// writeSettings prints the options. The first two lines are fixed by spec §4, whatever the list of options holds.
func writeSettings(b *strings.Builder, c ConnectionStatus) {
	line(b, "Name", printable(c.Name))
	line(b, "Brokers", printable(c.Brokers))
	for _, s := range c.Settings {
		if s.Label != "Name" && s.Label != "Brokers" {
			line(b, printable(s.Label), printable(s.Value))
		}
	}
}

func writeBrokers(b *strings.Builder, states []BrokerState, now time.Time) {
	if len(states) == 0 {
		b.WriteString("  none yet\n")
	}
	width := valueColumn - 2 // as item does, so that the short ones stand below the options' values
	for _, s := range states {
		if n := utf8.RuneCountInString(printable(s.Address)) + 2; n <= 48 {
			width = max(width, n)
		}
	}
	for _, s := range states {
		text := s.text(now)
		b.WriteString("  " + pad(printable(s.Address), width) + text + "\n")
	}
}

// text says in a few words how a broker is.
func (s BrokerState) text(now time.Time) string {
	var text string
	since := s.Since
	switch {
	case s.Connected:
		text = "connected"
	case !s.Connecting.IsZero() && (s.Since.IsZero() || s.Idle):
		text, since = "connecting", s.Connecting
	case s.Unneeded:
		return "not needed: the cluster is reached by other addresses"
	case s.Idle:
		text = "idle"
	default:
		text = "not connected"
	}
	if !since.IsZero() {
		text += " for " + age(now.Sub(since))
	}
	if pause := s.Throttled.Sub(now); pause > 0 {
		text += ", throttled by it for another " + age(pause)
	}
	if !s.Connected && !s.Idle && s.LastError != "" {
		text += ": " + printable(s.LastError)
	}
	return text
}

// writeCounters prints where the messages are. What the counters do not account for is said, not left to be worked
// out.
func writeCounters(b *strings.Builder, c ConnectionStatus, now time.Time) {
	t := c.Totals
	writeCount(b, "Accepted", t.Accepted, []ReasonCount{{"restored from an earlier run", t.Restored}})
	writeCount(b, "Acknowledged", t.Acknowledged, nil)
	writeCount(b, "Waiting", t.pending(), []ReasonCount{{"being sent", t.Sending}})
	writeCount(b, "Spooled", t.Spooled, nil)
	writeCount(b, "Dead letters", sum(t.Dead), t.Dead)
	writeCount(b, "Dropped", sum(t.Dropped), t.Dropped)
	if missing := int64(t.Accepted - t.Acknowledged - t.pending() - t.Spooled - sum(t.Dead) - sum(t.Dropped)); missing != 0 {
		item(b, "Unaccounted for", strconv.FormatInt(missing, 10))
	}
	writeCount(b, "Retried", t.Retried, nil)
	writeCount(b, "Refused", sum(c.Refused), c.Refused)
	if c.Implausible > 0 {
		item(b, "Bad responses", strconv.FormatUint(c.Implausible, 10)+" of brokers, refused")
	}
	if c.LastError != "" {
		text := printable(c.LastError)
		if !c.LastErrorAt.IsZero() {
			text = age(now.Sub(c.LastErrorAt)) + " ago: " + text
		}
		item(b, "Last error", text)
	}
}

// writeCount prints a number and how much of it is of which sort.
func writeCount(b *strings.Builder, label string, n uint64, of []ReasonCount) {
	text := strconv.FormatUint(n, 10)
	if reasons := reasonList(of); reasons != "" {
		text += " (" + reasons + ")"
	}
	item(b, label, text)
}

// item prints an indented line whose value stands below those of the options.
func item(b *strings.Builder, label, value string) {
	b.WriteString("  " + pad(label, valueColumn-2) + value + "\n")
}

// reasonList prints the reasons that have occurred, or nothing.
func reasonList(reasons []ReasonCount) string {
	var list []string
	for _, r := range reasons {
		if r.Count > 0 {
			list = append(list, fmt.Sprintf("%s: %d", printable(r.Reason), r.Count))
		}
	}
	return strings.Join(list, ", ")
}

// writeTroubles prints the topics whose messages wait for a reason that brokers gave.
func writeTroubles(b *strings.Builder, topics []TopicStatus, now time.Time) {
	title := "\nTopics in trouble:\n"
	for _, t := range sortedTopics(topics) {
		if t.Trouble != "" {
			b.WriteString(title)
			title = ""
			item(b, printable(t.Topic), "for "+age(now.Sub(t.Since))+": "+printable(t.Trouble))
		}
	}
}

func sortedTopics(topics []TopicStatus) []TopicStatus {
	return slices.SortedFunc(slices.Values(topics), func(a, b TopicStatus) int { return cmp.Compare(a.Topic, b.Topic) })
}

func topicTable(topics []TopicStatus) string {
	var rows [][]string
	for _, t := range sortedTopics(topics) {
		name := printable(t.Topic)
		if name == "" {
			name = "(earlier runs)"
		}
		row := []string{name}
		for _, n := range []uint64{t.Accepted, t.Acknowledged, t.pending(), t.Spooled, t.Retried, sum(t.Dropped), sum(t.Dead)} {
			row = append(row, strconv.FormatUint(n, 10))
		}
		rows = append(rows, append(row, reasonList(slices.Concat(t.Dead, t.Dropped))))
	}
	number := func(title string) column { return column{title: title, least: len(title) + 2, most: 24, right: true} }
	return table([]column{
		{title: "Topic", least: 26, most: 60},
		number("Accepted"), number("Acknowledged"), number("Waiting"), number("Spooled"), number("Retried"), number("Dropped"),
		number("Dead letters"), {title: "Why"},
	}, rows)
}
