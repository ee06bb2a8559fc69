package console

import (
	"fmt"
	"iter"
	"maps"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"reskafka/internal/metrics"
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
	writeCounts(&b, c.Numbers)
	writeLastError(&b, c.LastError, c.Numbers, now)
	if s, ok := env.Spool(c.Name); ok {
		item(&b, "Spool", s.summary(now))
	}
	b.WriteString(topicTable(c.Numbers))
	writeTroubles(&b, c, now)
	return b.String(), true
}

// writeSettings prints the options. Spec §4 fixes the first two lines, for any list of options.
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
	width := valueColumn - 2 // like item, so short labels align with the options' values
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

// count is a line about messages, or a column.
type count struct {
	title   string
	metrics []*metrics.Metric // added up
	part    *metrics.Metric   // the part with a property; nil = split by reason, if there is any
	partly  string            // the property
}

func number(title string, of ...*metrics.Metric) count { return count{title: title, metrics: of} }

// with returns c with the number of part.
func (c count) with(part *metrics.Metric, partly string) count {
	c.part, c.partly = part, partly
	return c
}

// The lines about messages. The first is the sum of the outcomes.
var (
	accepted = number("Accepted", metrics.RecordsAccepted).
			with(metrics.RecordsRestored, "restored from an earlier run")
	acknowledged = number("Acknowledged", metrics.RecordsAcknowledged)
	waiting      = number("Waiting", metrics.RecordsWaiting, metrics.RecordsSending).
			with(metrics.RecordsSending, "being sent")
	spooled     = number("Spooled", metrics.RecordsSpooled)
	deadLetters = number("Dead letters", metrics.DeadLetters)
	dropped     = number("Dropped", metrics.RecordsDropped)
	retried     = number("Retried", metrics.RecordsRetried)
	refused     = number("Refused", metrics.RecordsRefused)

	outcomes     = []count{acknowledged, waiting, spooled, deadLetters, dropped}
	topicColumns = []count{accepted, acknowledged, waiting, spooled, retried, dropped, deadLetters}
)

// of returns the number for the branch v.
func (c count) of(v *metrics.Values) uint64 { return v.Sum(c.metrics...) }

// cell is of as a cell of a table.
func (c count) cell(v *metrics.Values) string { return strconv.FormatUint(c.of(v), 10) }

// reasons lists how many are so for which reason, or partly so.
func (c count) reasons(v *metrics.Values) []ReasonCount {
	if c.part != nil {
		return []ReasonCount{{c.partly, v.Sum(c.part)}}
	}
	return byFrequency(v.By(metrics.Reason, c.metrics...))
}

// write prints the line.
func (c count) write(b *strings.Builder, v *metrics.Values) {
	text := c.cell(v)
	if reasons := reasonList(c.reasons(v)); reasons != "" {
		text += " (" + reasons + ")"
	}
	item(b, c.title, text)
}

// writeCounts prints where the messages are. A difference between the sum and the outcomes is printed, not
// left to be worked out.
func writeCounts(b *strings.Builder, v *metrics.Values) {
	accepted.write(b, v)
	missing := accepted.of(v)
	for _, outcome := range outcomes {
		outcome.write(b, v)
		missing -= outcome.of(v)
	}
	if missing != 0 {
		item(b, "Unaccounted for", strconv.FormatInt(int64(missing), 10))
	}
	retried.write(b, v)
	refused.write(b, v)
	if n := v.Sum(metrics.ResponsesRefused); n > 0 {
		item(b, "Bad responses", strconv.FormatUint(n, 10)+" of brokers, refused")
	}
}

// writeLastError prints a client's last error with its age.
func writeLastError(b *strings.Builder, text string, v *metrics.Values, now time.Time) {
	if text == "" {
		return
	}
	text = printable(text)
	if at := v.Time(metrics.LastError); !at.IsZero() {
		text = age(now.Sub(at)) + " ago: " + text
	}
	item(b, "Last error", text)
}

// item prints an indented line, aligned with the options' values.
func item(b *strings.Builder, label, value string) {
	b.WriteString("  " + pad(label, valueColumn-2) + value + "\n")
}

// reasonList prints the present reasons, or nothing.
func reasonList(reasons []ReasonCount) string {
	var list []string
	for _, r := range reasons {
		if r.Count > 0 {
			list = append(list, fmt.Sprintf("%s: %d", printable(r.Reason), r.Count))
		}
	}
	return strings.Join(list, ", ")
}

// writeTroubles prints the topics with messages waiting because of brokers.
func writeTroubles(b *strings.Builder, c ConnectionStatus, now time.Time) {
	title := "\nTopics in trouble:\n"
	for topic, v := range topicsOf(c.Numbers) {
		if trouble := c.Troubles[topic]; trouble != "" {
			b.WriteString(title)
			title = ""
			item(b, printable(topic), "for "+age(now.Sub(v.Time(metrics.TopicBlockedSince)))+": "+printable(trouble))
		}
	}
}

// topicsOf returns the topics with accepted messages, by name.
func topicsOf(v *metrics.Values) iter.Seq2[string, *metrics.Values] {
	topics := maps.Collect(v.Each(metrics.Topic))
	return func(yield func(string, *metrics.Values) bool) {
		for _, topic := range slices.Sorted(maps.Keys(topics)) {
			if _, ok := topics[topic].Get(metrics.RecordsAccepted); ok && !yield(topic, topics[topic]) {
				return
			}
		}
	}
}

func topicTable(v *metrics.Values) string {
	var rows [][]string
	for topic, of := range topicsOf(v) {
		name := printable(topic)
		if name == "" {
			name = "(earlier runs)"
		}
		row := []string{name}
		for _, c := range topicColumns {
			row = append(row, c.cell(of))
		}
		rows = append(rows, append(row, reasonList(slices.Concat(deadLetters.reasons(of), dropped.reasons(of)))))
	}
	if rows == nil {
		return ""
	}
	columns := []column{{title: "Topic", least: 26, most: 60}}
	for _, c := range topicColumns {
		columns = append(columns, numberColumn(c.title))
	}
	return "\n" + table(append(columns, column{title: "Why"}), rows)
}

// numberColumn returns a column of numbers as wide as its title.
func numberColumn(title string) column {
	return column{title: title, least: len(title) + 2, most: 24, right: true}
}
