package outbox

import (
	"slices"
	"strings"

	"reskafka/internal/metrics"
	records "reskafka/test/account"
)

// Counters are the account of one topic.
type Counters struct {
	Topic string
	records.Account
}

// Counters returns what Collect adds, a topic after the other, by name.
func (o *Outbox) Counters() []Counters {
	v := metrics.Of("test")
	o.Collect(v)
	all := []Counters{}
	for topic, at := range v.Each(metrics.Topic) {
		all = append(all, Counters{topic, records.Of(at)})
	}
	slices.SortFunc(all, func(a, b Counters) int { return strings.Compare(a.Topic, b.Topic) })
	return all
}
