// Package metrics has the table of the engine's metrics, and carries values from the counting parts to the
// console. A metric is a row of the table (table.go) and the place of the count. No other code names a
// metric.
//
// The parts of the engine count under their own locks, mostly in Counts. On request each part adds its counts
// to Values, owned by the caller.
package metrics

import (
	"slices"
	"strings"
)

// Kind says how a metric changes.
type Kind string

// The kinds, in the words of Prometheus.
const (
	Counter Kind = "counter" // only grows; starts at zero with its owner
	Gauge   Kind = "gauge"
)

// Unit is the unit of a value.
type Unit string

// The units. Values of Seconds are in nanoseconds, values of Timestamp in nanoseconds since 1970, because an
// integer is exact.
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
	Name string // Prometheus' form: reskafka_records_accepted_total
	Kind Kind
	Unit Unit
	Help string // one sentence

	// Labels are the names of the labels, the connection first. A value may lack a label. Such a value covers
	// everything the label would separate.
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
