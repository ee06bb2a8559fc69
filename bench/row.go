package main

import "context"

// variant is one of the things that are compared: an Asterisk with or without a module that offers asterisk/kafka.h.
type variant string

const (
	ours      variant = "res_kafka"
	disk      variant = "res_kafka, disk" // ours with durability = disk
	reference variant = "librdkafka"
	bare      variant = "no module" // Asterisk without either
)

// metric is one of the numbers that a row shows.
type metric struct {
	key      string  // its name in values
	label    string  // its name for people
	unit     string  // that it is shown in, and that goals are in
	scale    float64 // what a value is multiplied with to be in that unit; 0 = 1
	of       variant // whose it is; "" = ours
	against  variant // what it is compared with; "" = reference
	goal     goal
	headline bool // is shown while the measurement goes on
}

// owner is whose the metric is.
func (m metric) owner() variant {
	if m.of == "" {
		return ours
	}
	return m.of
}

// opponent is what it is compared with.
func (m metric) opponent() variant {
	if m.against == "" {
		return reference
	}
	return m.against
}

// must gives the metric a goal.
func (m metric) must(how comparison, limit float64) metric {
	m.goal = goal{how, limit}
	return m
}

// row is one measurement: what is done in each round, and what is shown of it.
type row struct {
	name     string
	about    string // what is done, for people
	variants []variant
	rounds   int // at least; 0 = the common number
	measure  func(context.Context, *round) error
	metrics  []metric
	series   *series // what the plot is drawn of; nil = it is not in the plot
}

// metrics that several rows have.
var (
	callP50     = metric{key: "p50_ns", label: "call, median", unit: "µs", scale: 1e-3, headline: true}
	callP99     = metric{key: "p99_ns", label: "call, p99", unit: "µs", scale: 1e-3, headline: true}
	callP999    = metric{key: "p99_9_ns", label: "call, p99.9", unit: "µs", scale: 1e-3}
	callWorst   = metric{key: "own_max_ns", label: "longest call, waiting for a processor aside", unit: "ms", scale: 1e-6, headline: true}
	callLongest = metric{key: "max_ns", label: "longest call, all in", unit: "ms", scale: 1e-6}
	throughput  = metric{key: "per_second", label: "to the broker, messages", unit: "1,000/s", scale: 1e-3, headline: true}
	millionCPU  = metric{key: "cpu_us_each", label: "CPU for a million messages", unit: "s", headline: true}
	steadyCPU   = metric{key: "cpu_share", label: "CPU", unit: "% of a core", scale: 100, headline: true}
	wakeUps     = metric{key: "voluntary_per_second", label: "voluntary context switches", unit: "1/s"}
)
