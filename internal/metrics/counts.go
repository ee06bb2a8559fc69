package metrics

// Counts are one owner's numbers under the same labels, for example a topic's. The zero value is ready for
// use. The owner's lock guards Counts. The list is short, so a scan is faster than a map.
type Counts struct{ list []count }

type count struct {
	metric *Metric
	reason string // empty = the metric has no such label
	n      uint64
}

// Add adds n, which may be negative, to a metric.
func (c *Counts) Add(m *Metric, n int) { c.AddFor(m, "", n) }

// AddFor adds n, which may be negative, to a metric's count for one reason. A reason with a count of zero is
// deleted.
func (c *Counts) AddFor(m *Metric, reason string, n int) {
	for i := range c.list {
		one := &c.list[i]
		if one.metric != m || one.reason != reason {
			continue
		}
		if one.n += uint64(n); one.n == 0 && reason != "" {
			c.list[i] = c.list[len(c.list)-1]
			c.list = c.list[:len(c.list)-1]
		}
		return
	}
	if n != 0 {
		c.list = append(c.list, count{m, reason, uint64(n)})
	}
}

// Of returns a metric's count over all reasons.
func (c *Counts) Of(m *Metric) (n uint64) {
	for i := range c.list {
		if c.list[i].metric == m {
			n += c.list[i].n
		}
	}
	return n
}

// Collect adds the numbers to v.
func (c *Counts) Collect(v *Values) {
	for _, one := range c.list {
		at := v
		if one.reason != "" {
			at = v.In(Reason, one.reason)
		}
		at.Add(one.metric, one.n)
	}
}
