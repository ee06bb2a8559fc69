package console

import (
	"strings"
	"time"

	"reskafka/internal/metrics"
)

var showSpool = Command{
	Words:   "kafka show spool",
	Summary: "Show what waits on disk for Kafka",
	Usage: "Usage: kafka show spool [<connection>]\n" +
		"       Shows the messages that wait on disk for their delivery, for each connection of\n" +
		"       kafka.conf, or of one connection for each topic; and the dead letters, which are messages\n" +
		"       that a broker has refused for good or that have waited for longer than spool_max_hours.\n",
	Complete: completeConnection("kafka show spool"),
	Run:      runShowSpool,
}

func runShowSpool(env Env, args []string) (string, bool) {
	rest := arguments("kafka show spool", args)
	if rest == nil || len(rest) > 1 {
		return "", false
	}
	if len(rest) == 1 {
		s, ok := env.Spool(rest[0])
		if !ok {
			return noConnection(env, rest[0]), true
		}
		return spoolText(s, env.Now()), true
	}
	if !env.Enabled() {
		return disabledText, true
	}
	spools := env.Spools()
	if len(spools) == 0 {
		return noConnections, true
	}
	return spoolTable(spools, env.Now()), true
}

// Counts of a whole spool.
var (
	spoolDead   = number("Dead letters", metrics.SpoolDeadLetters)
	spoolCounts = []count{
		spoolDead, number("Damaged records", metrics.SpoolDamaged), number("Files set aside", metrics.SpoolSetAside),
	}
)

func spoolTable(spools []SpoolStatus, now time.Time) string {
	var rows [][]string
	for _, s := range spools {
		rows = append(rows, []string{
			printable(s.Name), printable(s.Durability), spooled.cell(s.Numbers), s.size(metrics.SpoolBytes), s.size(metrics.SpoolLimit),
			ageOrNone(s.oldest(), now), spoolDead.cell(s.Numbers), printable(s.State),
		})
	}
	return table([]column{
		{title: "Name", least: 16, most: 40},
		{title: "Durability", least: 12},
		{title: "Records", least: 10, most: 24, right: true},
		{title: "Size", least: 10, most: 12, right: true},
		{title: "Limit", least: 10, most: 12, right: true},
		{title: "Oldest", least: 9, most: 12, right: true},
		{title: "Dead letters", least: 14, most: 24, right: true},
		{title: "State"},
	}, rows)
}

// spoolText prints a spool.
func spoolText(s SpoolStatus, now time.Time) string {
	var b strings.Builder
	line(&b, "Name", printable(s.Name))
	line(&b, "Durability", printable(s.Durability))
	line(&b, "Directory", printable(s.Dir))
	line(&b, "State", printable(s.State))
	line(&b, "Records", spooled.cell(s.Numbers))
	line(&b, "Size", s.room())
	line(&b, "Oldest", ageOrNone(s.oldest(), now))
	for _, c := range spoolCounts {
		line(&b, c.title, c.cell(s.Numbers))
	}
	var rows [][]string
	for topic, v := range topicsOf(s.Numbers) {
		bytes, ok := v.Get(metrics.SpoolTopicBytes)
		if ok || spooled.of(v) > 0 {
			oldest := ageOrNone(v.Time(metrics.SpoolOldest), now)
			rows = append(rows, []string{printable(topic), spooled.cell(v), size(int64(bytes)), oldest})
		}
	}
	if rows == nil {
		return b.String()
	}
	b.WriteString("\n" + table([]column{
		{title: "Topic", least: 26, most: 60},
		{title: "Records", least: 10, most: 24, right: true},
		{title: "Size", least: 10, most: 12, right: true},
		{title: "Oldest", least: 9, most: 12, right: true},
	}, rows))
	return b.String()
}
