package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"time"
)

// bench is a run of the whole benchmark.
type bench struct {
	root      string // of the Asterisk
	build     string // where the reskafka command is
	install   string // DESTDIR of ours
	reference string // DESTDIR of the reference; "" = none, left out
	dir       string // private, for everything
	share     float64
	rounds    int // default number of rounds of a row
	keep      bool
	progress  io.Writer

	swallow, apache *broker
	topics          atomic.Int64 // how many have had a name
	started         atomic.Int64 // how many rounds there were
}

// roundTimeout is the limit of a round, above which it counts as hung.
const roundTimeout = 5 * time.Minute

// result has a row's values: for each variant the values of each round.
type result struct {
	row    *row
	rounds map[variant][]values
	note   string
	err    error // cause of an aborted row
}

// median returns the median of a value over a variant's rounds, NaN without any.
func (r *result) median(of variant, key string) float64 { return median(r.all(of, key)) }

// all returns the values of a variant's rounds, where present.
func (r *result) all(of variant, key string) []float64 {
	var numbers []float64
	for _, found := range r.rounds[of] {
		if number, measured := found[key]; measured {
			numbers = append(numbers, number)
		}
	}
	return numbers
}

// measure runs a row: its variants in turn, repeatedly, so a change of the machine affects all variants.
func (b *bench) measure(ctx context.Context, row *row) *result {
	found := &result{row: row, rounds: map[variant][]values{}}
	if row.note != nil {
		if found.note, found.err = row.note(); found.err != nil {
			found.err = fmt.Errorf("row %q: %w", row.name, found.err)
			return found
		}
	}
	rounds := b.rounds
	if rounds > 1 {
		rounds = max(rounds, row.rounds)
	}
	for number := 1; number <= rounds; number++ {
		for _, v := range row.variants {
			if v == reference && b.reference == "" {
				continue
			}
			began := time.Now()
			values, err := b.one(ctx, row, v, number)
			if err != nil {
				found.err = fmt.Errorf("row %q, round %d, %s: %w", row.name, number, v, err)
				return found
			}
			found.rounds[v] = append(found.rounds[v], values)
			fmt.Fprintf(b.progress, "%-32s %d/%d %-15s %5.1f s  %s\n", row.name, number, rounds, v, time.Since(began).Seconds(), brief(row, values))
		}
	}
	return found
}

// one runs a round.
func (b *bench) one(ctx context.Context, row *row, v variant, number int) (values, error) {
	ctx, cancel := context.WithTimeout(ctx, roundTimeout)
	defer cancel()
	r := &round{
		bench: b, row: row, variant: v, number: number, values: values{},
		dir: filepath.Join(b.dir, fmt.Sprint(b.started.Add(1))),
	}
	err := row.measure(ctx, r)
	return r.values, errors.Join(err, r.end())
}

// brief is the progress line of a round.
func brief(row *row, found values) string {
	var parts, keys []string
	for _, m := range row.metrics {
		number, measured := found[m.key]
		if m.headline && measured && !slices.Contains(keys, m.key) {
			parts, keys = append(parts, m.label+" "+m.show(number)), append(keys, m.key)
		}
	}
	return strings.Join(parts, ", ")
}

// in returns a value in the metric's unit.
func (m metric) in(value float64) float64 {
	if m.scale == 0 {
		return value
	}
	return value * m.scale
}

// down ends the brokers.
func (b *bench) down() error { return errors.Join(b.swallow.down(), b.apache.down()) }
