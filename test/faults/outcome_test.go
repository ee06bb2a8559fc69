package faults

import (
	"cmp"
	"context"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// outcome is the outcome of a lane's messages.
type outcome struct {
	delivery
	lane       *lane
	row        string
	on         place
	promise    promise
	accepted   int // calls that returned 0
	refused    int // calls that returned -1
	counted    count
	worst      time.Duration
	percent    time.Duration // 99 of 100 calls took no longer
	slow       int           // calls of more than 5 ms
	own        time.Duration // the longest own time of a call: see steady.h
	slowOwn    int           // calls of more than 5 ms of own time
	broken     []string
	loggedLost int // given up by the log
}

// outcome reads the lane's topic and all counters. No message may be in flight.
func (s *site) outcome(r row, on place, l *lane) *outcome {
	s.Helper()
	o := &outcome{
		lane: l, row: r.name, on: on, promise: r.promise[l.mode], accepted: l.ledger.Accepted(), refused: l.ledger.Refused(),
		counted: s.count(l), worst: l.ledger.Worst(), own: l.ledger.WorstOwn(), percent: l.ledger.Percentile(0.99),
		loggedLost: l.loggedLost, slow: l.ledger.Slow(), slowOwn: l.ledger.SlowOwn(),
	}
	ctx, cancel := context.WithTimeout(s.ctx, 2*patience)
	defer cancel()
	client := s.client()
	defer client.Close()
	var err error
	if o.delivery, err = readTopic(ctx, client, l.topic, l.ledger, keys); err != nil {
		s.Fatal(err)
	}
	o.broken = append(always(o), o.promise.broken(o)...)
	return o
}

// always lists violations independent of a cell's promise.
func always(o *outcome) (broken []string) {
	no := func(what string, count int) {
		if count != 0 {
			broken = append(broken, fmt.Sprintf("%d %s", count, what))
		}
	}
	no("records out of their key's order", o.disordered)
	no("records that nobody produced, or keys in two partitions", o.strange)
	no("refused messages that were delivered", o.ghosts)
	no("messages that the counters do not account for", o.counted.unaccounted)
	if o.accepted == 0 || o.delivered == 0 {
		broken = append(broken, "nothing was produced: this run shows nothing")
	}
	if o.promise.killed {
		return broken
	}
	if o.lane.idempotent {
		no("duplicates, though Asterisk was not killed", o.duplicated)
	}
	no("more accepted by the counters than by the calls", o.counted.accepted-o.accepted)
	no("more refused by the counters than by the calls", o.counted.refused-o.refused)
	// More messages at the broker than acknowledged are possible, fewer are not.
	if o.delivered < o.counted.acknowledged {
		broken = append(broken, fmt.Sprintf("%d acknowledged records are not in the topic", o.counted.acknowledged-o.delivered))
	}
	if gone := o.counted.dead + o.counted.dropped; o.lost > gone {
		broken = append(broken, fmt.Sprintf("%d lost records were counted neither as dropped nor as dead letters", o.lost-gone))
	}
	return broken
}

func (o *outcome) judge(t *testing.T) {
	t.Helper()
	table.Lock()
	table.outcomes = append(table.outcomes, o)
	table.Unlock()
	t.Logf("%s", o)
	if len(o.broken) > 0 {
		t.Errorf("%s: %s\nmissing, for example (thread and number): %v\n%s", o.promise.text, strings.Join(o.broken, "; "),
			o.missed[:min(len(o.missed), 10)], o.counted.text)
	}
}

func (o *outcome) String() string {
	return fmt.Sprintf("accepted %d refused %d delivered %d duplicated %d lost %d out of order %d, counted as dropped %d (%s); worst call %v, p99 < %v, over 5 ms: %d; own time %v, %d",
		o.accepted, o.refused, o.delivered, o.duplicated, o.lost, o.disordered, o.counted.dropped, o.counted.why, o.worst.Round(time.Microsecond),
		o.percent, o.slow, o.own.Round(time.Microsecond), o.slowOwn)
}

// table has the results, by the order of the rows.
var table struct {
	sync.Mutex
	outcomes []*outcome
	notes    []string
}

// note is a line below the table.
func note(format string, args ...any) {
	table.Lock()
	defer table.Unlock()
	table.notes = append(table.notes, fmt.Sprintf(format, args...))
}

// printTable writes the table to the file RES_KAFKA_RESULTS, or prints it.
func printTable() error {
	if len(table.outcomes)+len(table.notes) == 0 {
		return nil
	}
	order := map[mode]int{memory: 0, overflow: 1, disk: 2}
	slices.SortStableFunc(table.outcomes, func(a, b *outcome) int {
		return cmp.Or(cmp.Compare(slices.Index(rowNames, a.row), slices.Index(rowNames, b.row)), cmp.Compare(order[a.lane.mode], order[b.lane.mode]))
	})
	var text strings.Builder
	text.WriteString("| fault | brokers | mode | accepted | refused | delivered | duplicated | lost | out of order | counted as dropped | worst call, over 5 ms | own time, over 5 ms | promise | holds |\n" +
		"| --- | --- | --- | --: | --: | --: | --: | --: | --: | --: | --- | --- | --- | --- |\n")
	for _, o := range table.outcomes {
		holds := "yes"
		if len(o.broken) > 0 {
			holds = "NO: " + strings.Join(o.broken, "; ")
		}
		fmt.Fprintf(&text, "| %s | %s | %s | %d | %d | %d | %d | %d | %d | %d | %v, %d | %v, %d | %s | %s |\n", o.row, o.on, o.lane.mode, o.accepted,
			o.refused, o.delivered, o.duplicated, o.lost, o.disordered, o.counted.dropped, o.worst.Round(10*time.Microsecond), o.slow,
			o.own.Round(10*time.Microsecond), o.slowOwn,
			o.promise.text, holds)
	}
	for _, line := range table.notes {
		text.WriteString("\n" + line + "\n")
	}
	if path := os.Getenv("RES_KAFKA_RESULTS"); path != "" {
		if err := os.WriteFile(path, []byte(text.String()), 0o644); err != nil {
			return err
		}
		held := 0
		for _, o := range table.outcomes {
			if len(o.broken) == 0 {
				held++
			}
		}
		fmt.Printf("note: %d of %d cells hold; the table is in %s\n", held, len(table.outcomes), path)
		return nil
	}
	_, err := os.Stdout.WriteString(text.String())
	return err
}
