package main

import (
	"context"
	"fmt"
)

// series is a kind of growth: a load for each of several numbers.
type series struct {
	of     string
	points []int
	bySize bool // see growth
	load   func(int) load
}

// The costs of a message in a series.
var costs = []struct{ key, label, unit string }{
	{"cpu_us_each", "CPU for a message", "µs"},
	{"p50_us", "call, median", "µs"},
}

// pointKey is the name of a cost at a point in values.
func (s series) pointKey(cost string, point int) string {
	return fmt.Sprintf("%s %s %d", cost, s.of, point)
}

// row returns the series' row of the table: the largest growth of its costs beyond linear.
func (s series) row() row {
	last := s.points[len(s.points)-1]
	made := row{
		name:     fmt.Sprintf("growth, %s", s.of),
		about:    fmt.Sprintf("flat out, %s to %s %s", thousands(s.points[0]), thousands(last), s.of),
		variants: []variant{ours, reference},
		measure:  s.measure,
		series:   &s,
	}
	for _, cost := range costs {
		m := metric{key: cost.key + " growth", label: cost.label + ", growth beyond linear", unit: "times", headline: true}
		made.metrics = append(made.metrics, m.must(absoluteAtMost, 1.5))
	}
	return made
}

// measure runs the loads on a single Asterisk, one after another.
func (s series) measure(ctx context.Context, r *round) error {
	address, err := r.bench.swallow.up(ctx)
	if err != nil {
		return err
	}
	most := 0
	for _, point := range s.points {
		most = max(most, s.load(point).connections)
	}
	if err := r.start(ctx, launch{brokers: address, numbered: most}); err != nil {
		return err
	}
	each := map[string][]float64{}
	for _, point := range s.points {
		found, err := s.load(point).run(ctx, r, r.topic("growth"))
		if err != nil {
			return fmt.Errorf("%s %d: %w", s.of, point, err)
		}
		found["p50_us"] = found["p50_ns"] / 1000
		for _, cost := range costs {
			r.values[s.pointKey(cost.key, point)] = found[cost.key]
			each[cost.key] = append(each[cost.key], found[cost.key])
		}
		r.values["refused"] += found["refused"]
	}
	for _, cost := range costs {
		r.values[cost.key+" growth"] = growth(s.points, each[cost.key], s.bySize)
	}
	return nil
}
