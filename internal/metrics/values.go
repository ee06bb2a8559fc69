package metrics

import (
	"iter"
	"time"
)

// Values are a snapshot: a tree of labels and label values. A value at a branch has all labels from the root
// to the branch. The zero value is the root of an empty tree. A nil *Values is empty. Values are not safe for
// concurrent use.
type Values struct {
	above        *Values
	label, value string
	numbers      []number
	branches     []*Values
	index        map[branch]*Values // of branches, above indexFrom
}

type number struct {
	metric *Metric
	n      uint64
}

type branch struct{ label, value string }

// indexFrom is the number of branches from which a map replaces the scan. Not measured: any number of this
// order serves.
const indexFrom = 16

// Of returns the root of a connection's tree.
func Of(connection string) *Values { return (&Values{}).In(Connection, connection) }

// In returns the branch of a label's value, and creates a missing branch.
func (v *Values) In(label, value string) *Values {
	if at := v.At(label, value); at != nil {
		return at
	}
	at := &Values{above: v, label: label, value: value}
	v.branches = append(v.branches, at)
	switch {
	case v.index != nil:
		v.index[branch{label, value}] = at
	case len(v.branches) == indexFrom:
		v.index = make(map[branch]*Values, 2*indexFrom)
		for _, b := range v.branches {
			v.index[branch{b.label, b.value}] = b
		}
	}
	return at
}

// At returns the branch of a label's value, nil = there is none.
func (v *Values) At(label, value string) *Values {
	if v == nil {
		return nil
	}
	if v.index != nil {
		return v.index[branch{label, value}]
	}
	for _, b := range v.branches {
		if b.label == label && b.value == value {
			return b
		}
	}
	return nil
}

// Add adds n to a metric's value at this branch. Add panics if the metric lacks a label of the branch. The
// first test of the collecting function finds such a mistake.
func (v *Values) Add(m *Metric, n uint64) {
	for at := v; at.above != nil; at = at.above {
		if !m.Has(at.label) {
			panic("metrics: " + m.Name + " has no label " + at.label)
		}
	}
	for i := range v.numbers {
		if v.numbers[i].metric == m {
			v.numbers[i].n += n
			return
		}
	}
	v.numbers = append(v.numbers, number{m, n})
}

// AddKnown is Add for an offset. A negative offset is unknown, and adds no value.
func (v *Values) AddKnown(m *Metric, n int64) {
	if n >= 0 {
		v.Add(m, uint64(n))
	}
}

// AddTime is Add for a moment. The zero time is none, and there is no value.
func (v *Values) AddTime(m *Metric, at time.Time) {
	if !at.IsZero() {
		v.Add(m, uint64(at.UnixNano()))
	}
}

// Get returns a metric's value at this very branch; ok is false if there is none.
func (v *Values) Get(m *Metric) (n uint64, ok bool) {
	if v != nil {
		for _, one := range v.numbers {
			if one.metric == m {
				return one.n, true
			}
		}
	}
	return 0, false
}

// Time is Get for a moment, the zero time if there is none.
func (v *Values) Time(m *Metric) time.Time {
	n, ok := v.Get(m)
	if !ok {
		return time.Time{}
	}
	return time.Unix(0, int64(n))
}

// Duration is Get for a duration.
func (v *Values) Duration(m *Metric) time.Duration {
	n, _ := v.Get(m)
	return time.Duration(n)
}

// Sum adds up the values of metrics at this branch and below.
func (v *Values) Sum(metrics ...*Metric) (sum uint64) {
	if v == nil {
		return 0
	}
	for _, m := range metrics {
		n, _ := v.Get(m)
		sum += n
	}
	for _, b := range v.branches {
		sum += b.Sum(metrics...)
	}
	return sum
}

// By adds up the values of metrics for each value of a label, at any depth below this branch. Values without
// the label are left out.
func (v *Values) By(label string, metrics ...*Metric) map[string]uint64 {
	sums := map[string]uint64{}
	v.by(label, metrics, sums)
	return sums
}

func (v *Values) by(label string, metrics []*Metric, sums map[string]uint64) {
	if v == nil {
		return
	}
	for _, b := range v.branches {
		if b.label != label {
			b.by(label, metrics, sums)
		} else if n := b.Sum(metrics...); n > 0 {
			sums[b.value] += n
		}
	}
}

// Each returns the branches of a label with their values, in the order of creation.
func (v *Values) Each(label string) iter.Seq2[string, *Values] {
	return func(yield func(string, *Values) bool) {
		if v == nil {
			return
		}
		for _, b := range v.branches {
			if b.label == label && !yield(b.value, b) {
				return
			}
		}
	}
}
