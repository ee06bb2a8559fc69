package outbox

import (
	"slices"
	"strings"

	"reskafka/internal/metrics"
	records "reskafka/test/account"
)

// Counters are the account of a topic.
type Counters struct {
	Topic string
	records.Account
}

// Counters returns the values of Collect by topic, in order of names.
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
