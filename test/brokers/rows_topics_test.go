package brokers

import (
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/test/wire"
)

func init() { rows = append(rows, topicRows...) }

// topicRows are brokers whose metadata is not true.
var topicRows = []Row{
	{
		Name: "a topic without partitions, for a while", Finding: "C6",
		Broker: []wire.Fault{wire.Times(4, wire.Change(func(r *kmsg.MetadataResponse) {
			for i := range r.Topics {
				r.Topics[i].Partitions = nil
			}
		}))},
		Records: 10,
	},
	{
		Name: "a topic without partitions, for longer", Finding: "C6",
		Broker: []wire.Fault{wire.Times(25, wire.Change(func(r *kmsg.MetadataResponse) {
			for i := range r.Topics {
				r.Topics[i].Partitions = nil
			}
		}))},
		Records: 10,
		Log:     []string{"topic topic: the brokers list it without partitions"},
	},
	{
		Name: "a partition that is listed once and is not there", Finding: "C6",
		Broker:  []wire.Fault{surplusOnce()},
		Records: 10,
	},
}

// surplusOnce adds a partition to the first answer about a topic.
func surplusOnce() wire.Fault {
	var done atomic.Bool
	return wire.Change(func(r *kmsg.MetadataResponse) {
		for i := range r.Topics {
			if t := &r.Topics[i]; len(t.Partitions) == 1 && !done.Swap(true) {
				surplus := t.Partitions[0]
				surplus.Partition = 1 // the key of the bench's records belongs to it
				t.Partitions = append(t.Partitions, surplus)
			}
		}
	})
}
