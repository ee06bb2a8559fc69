// Package metrics has the one table of what the engine counts and measures, and carries the values from the
// places that count to those that show them. A metric is a row of the table (table.go) and the place that
// counts it: nothing in between names it.
//
// The parts of the engine keep their numbers themselves, under their own locks, most of them in Counts. On
// request they add them to Values, which belong to the caller.
package metrics

import (
	"slices"
	"strings"
)

// Kind says how a metric changes.
type Kind string

// The kinds, in the words of Prometheus.
const (
	Counter Kind = "counter" // only grows, from zero when its owner is made
	Gauge   Kind = "gauge"
)

// Unit says what a value counts.
type Unit string

// The units. Values of Seconds are in nanoseconds, those of Timestamp in nanoseconds since 1970: an integer
// is exact.
const (
	Batches     Unit = "batches"
	Bool        Unit = "0 or 1"
	Bytes       Unit = "bytes"
	Files       Unit = "files"
	Offset      Unit = "offset"
	Offsets     Unit = "offsets"
	Partitions  Unit = "partitions"
	Assignments Unit = "assignments"
	Records     Unit = "records"
	Responses   Unit = "responses"
	Seconds     Unit = "seconds"
	Timestamp   Unit = "seconds since 1970"
)

// Metric is a row of the table.
type Metric struct {
	Name string // as Prometheus wants it: reskafka_records_accepted_total
	Kind Kind
	Unit Unit
	Help string // one sentence

	// Labels are the names of the labels that tell its values apart, the connection first. A value may lack a
	// label: it is then about everything that the label would tell apart, or about what cannot be told apart.
	Labels []string
}

// Has reports whether the values of m may have a label.
func (m *Metric) Has(label string) bool { return slices.Contains(m.Labels, label) }

// Table lists every metric, in the order of table.go.
var Table []*Metric

// row adds a metric to the table. labels are separated by blanks.
func row(kind Kind, name string, unit Unit, labels, help string) *Metric {
	m := &Metric{Name: name, Kind: kind, Unit: unit, Help: help, Labels: strings.Fields(labels)}
	Table = append(Table, m)
	return m
}

func counter(name string, unit Unit, labels, help string) *Metric {
	return row(Counter, name, unit, labels, help)
}

func gauge(name string, unit Unit, labels, help string) *Metric {
	return row(Gauge, name, unit, labels, help)
}
