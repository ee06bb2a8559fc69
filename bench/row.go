package main

import "context"

// variant is a compared configuration: an Asterisk with or without a module that offers asterisk/kafka.h.
type variant string

const (
	ours      variant = "res_kafka"
	disk      variant = "res_kafka, disk" // ours with durability = disk
	reference variant = "librdkafka"
	bare      variant = "no module" // Asterisk without either
)

// metric is a number of a row.
type metric struct {
	key      string  // name in values
	label    string  // name for people
	unit     string  // of the display, and of goals
	scale    float64 // factor from the value to the unit; 0 = 1
	of       variant // owner; "" = ours
	against  variant // compared variant; "" = reference
	goal     goal
	headline bool // shown during the measurement
	more     bool // more is better
}

// owner returns the variant of the metric.
func (m metric) owner() variant {
	if m.of == "" {
		return ours
	}
	return m.of
}

// opponent returns the compared variant.
func (m metric) opponent() variant {
	if m.against == "" {
		return reference
	}
	return m.against
}

// must sets the metric's goal.
func (m metric) must(how comparison, limit float64) metric {
	m.goal = goal{how, limit}
	return m
}

// row is a measurement: the work of each round, and its metrics.
type row struct {
	name     string
	about    string // description for people
	variants []variant
	rounds   int // at least; 0 = the common number
	measure  func(context.Context, *round) error
	metrics  []metric
	series   *series // data of the plot; nil = not in the plot

	note func() (string, error) // measures the conditions of the row, once; nil = none
}

// metrics of several rows.
var (
	callP50     = metric{key: "p50_ns", label: "call, median", unit: "µs", scale: 1e-3, headline: true}
	callP99     = metric{key: "p99_ns", label: "call, p99", unit: "µs", scale: 1e-3, headline: true}
	callP999    = metric{key: "p99_9_ns", label: "call, p99.9", unit: "µs", scale: 1e-3}
	callWorst   = metric{key: "own_max_ns", label: "longest call, waiting for a processor aside", unit: "ms", scale: 1e-6, headline: true}
	callLongest = metric{key: "max_ns", label: "longest call, all in", unit: "ms", scale: 1e-6}
	throughput  = metric{key: "per_second", label: "to the broker, messages", unit: "1,000/s", scale: 1e-3, headline: true, more: true}
	millionCPU  = metric{key: "cpu_us_each", label: "CPU for a million messages", unit: "s", headline: true}
	steadyCPU   = metric{key: "cpu_share", label: "CPU", unit: "% of a core", scale: 100, headline: true}
	wakeUps     = metric{key: "voluntary_per_second", label: "voluntary context switches", unit: "1/s"}
)
