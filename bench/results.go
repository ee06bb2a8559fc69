package main

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// everything renders all values of a row's rounds, as medians, with a line for each value and a column for
// each variant.
func (r *result) everything() string {
	keys := map[string]bool{}
	for _, rounds := range r.rounds {
		for _, found := range rounds {
			for key := range found {
				keys[key] = true
			}
		}
	}
	var text strings.Builder
	fmt.Fprintf(&text, "\n%-36s", r.row.name)
	for _, v := range r.row.variants {
		fmt.Fprintf(&text, " %16s", v)
	}
	for _, key := range slices.Sorted(maps.Keys(keys)) {
		fmt.Fprintf(&text, "\n%-36s", key)
		for _, v := range r.row.variants {
			fmt.Fprintf(&text, " %16s", number(r.median(v, key), 5))
		}
	}
	text.WriteString("\n")
	if r.note != "" {
		text.WriteString(r.note + "\n")
	}
	return text.String()
}

// write writes RESULTS.md and the plot.
func (b *bench) write(dir string, results []*result, lines []line, drifted string, began time.Time) error {
	var text strings.Builder
	text.WriteString("# Costs\n\n`make bench` writes this file.\n\n")
	for _, fact := range b.facts(began) {
		fmt.Fprintf(&text, "- %s: %s\n", fact[0], fact[1])
	}
	text.WriteString("\n" + rules + "\n" + markdown(lines) + "\n" + tally(lines) + ".\n")
	if missed := inTheWay(lines); missed != "" {
		text.WriteString("\n## Missed goals and their causes\n\n" + missed)
	}
	if drifted != "" {
		text.WriteString("\n## Worse than in the run before\n\n" + worseRule + drifted)
	}
	text.WriteString("\n![How the cost of a message grows](growth.svg)\n\n## Rows\n\n")
	noted := ""
	for _, r := range results {
		fmt.Fprintf(&text, "- %s: %s.\n", r.row.name, r.row.about)
		if r.note != noted && r.note != "" { // rows over the same link have the same note
			fmt.Fprintf(&text, "  %s.\n", r.note)
		}
		noted = r.note
		if r.err != nil {
			reason, _, _ := strings.Cut(r.err.Error(), "\n") // the rest is the log
			fmt.Fprintf(&text, "  Not measured, or not to the end: %s\n", reason)
		}
	}
	fmt.Fprintf(&text, "\n## kafka.conf\n\nThe same for every connection of both modules; a row's description has its differences. Only ours has `durability`.\n\n```\n%s```\n",
		strings.TrimSuffix(kafkaConf("127.0.0.1:PORT", ours, 0, nil), "\n"))
	if err := os.WriteFile(filepath.Join(dir, "growth.svg"), []byte(plot(results)), 0o644); err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(dir, "RESULTS.md"), []byte(text.String()), 0o644)
}

// worseRule explains the list of worse figures.
const worseRule = `Each figure of this list is worse than before by more than the spread of both runs: no round is as good as any round
before. The reference's figures show a change of the machine. `

// rules explains the table.
const rules = `Both modules run in the same Asterisk, driven by bench/modules/kafka_bench.c through asterisk/kafka.h. The modules run in turn
(A B A B), each round in a fresh process, against the same broker on the same machine. A value is the median of the rounds, with
the least and the largest in brackets. A ratio is measured / compared. The broker discards records
(` + "`reskafka dev-broker --swallow`" + `) in all rows without Apache Kafka. Messages have 300 bytes and a key out of 1,000, without
compression; other rows name their differences. Times of calls include the reads of the clock. CPU, memory and threads are the
sum of Asterisk and the engine's process; CPU is user and system time, until the last record is at the broker.

Rows "WAN" go to Apache Kafka through a link (test/wan), which delays each byte by half of the named round trip in each direction
and limits no throughput.
`
