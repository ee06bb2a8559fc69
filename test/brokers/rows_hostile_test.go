package brokers

import (
	"encoding/binary"
	"fmt"
	"math"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/consume"
	"reskafka/test/wire"
	"reskafka/test/world"
)

func init() { rows = append(rows, hostileRows...) }

// hostileRows are brokers with untrue answers and networks with damage.
var hostileRows = []Row{
	{
		Name: "an honest broker", Records: 100, Consume: true,
		Shown: []string{"connected"},
	},
	{
		Name: "a request over the limit ends the connection", Finding: "A1",
		Broker: []wire.Fault{wire.SizeLimit(2000, wire.FIN)},
		Conf:   []string{"message_timeout_ms = 1000", "durability = memory"},
		Steps: func(b *Bench) error {
			p, err := b.Open("tested")
			if err != nil {
				return err
			}
			p.Put(string(make([]byte, 4000)))
			n, err := p.Settled()
			if err == nil && n != 0 {
				err = fmt.Errorf("acknowledged %d records through the limit", n)
			}
			return err
		},
		Log: []string{"it closed the connection", "dropped, message timeout"},
	},
	{
		Name: "the length of an answer to ApiVersions is 2 GB", Finding: "C2",
		Broker: []wire.Fault{wire.Key(kmsg.ApiVersions, wire.Times(2, wire.Fault{
			Answer: func(_ *wire.Conn, _ wire.Header, answer []byte) []byte {
				answer[0] = 0x7f
				return answer
			},
		}))},
		Records: 10, Consume: true,
		Log: []string{"its response to ApiVersions was refused: it has 21", "is back after"},
	},
	{
		Name: "ApiVersions before the login claims 10^8 keys", Finding: "C2",
		Broker: []wire.Fault{wire.Key(kmsg.ApiVersions, wire.Times(2, wire.Rewrite(kmsg.ApiVersions, func(wire.Header, []byte) []byte {
			return binary.AppendUvarint([]byte{0, 0}, 1e8)
		})))},
		Records: 10, Consume: true,
		Log: []string{"its response to ApiVersions was refused: it claims an array of 99999999 elements in 0 bytes", "is back after"},
	},
	{
		Name: "ApiVersions lists no request for metadata", Finding: "C10",
		Broker: []wire.Fault{wire.Key(kmsg.ApiVersions, wire.Times(2, wire.Change(func(r *kmsg.ApiVersionsResponse) {
			for i := range r.ApiKeys {
				r.ApiKeys[i].ApiKey = 0
			}
		})))},
		Records: 10, Consume: true,
		Log: []string{"its response to ApiVersions was refused: it does not list the request for metadata", "is back after"},
	},
	{
		Name: "Metadata of 95 MiB", Finding: "C2",
		Broker: []wire.Fault{wire.Key(kmsg.Metadata, wire.Times(2, wire.Rewrite(kmsg.Metadata, func(_ wire.Header, body []byte) []byte {
			return append(body, make([]byte, 95<<20)...)
		})))},
		Records: 10, Consume: true,
		Log: []string{"its response to Metadata was refused: it has 99", "is back after"},
	},
	{
		Name: "Metadata with an array of 2^31-1 brokers", Finding: "C2",
		Broker: []wire.Fault{wire.Key(kmsg.Metadata, wire.Times(2, wire.Rewrite(kmsg.Metadata, func(_ wire.Header, body []byte) []byte {
			return append(body[:5:5], 0x80, 0x80, 0x80, 0x80, 0x08, 1, 1, 1) // behind the header's tags and the throttle time
		})))},
		Records: 10, Consume: true,
		Log: []string{"its response to Metadata was refused: it claims an array of 2147483647 elements in 3 bytes", "is back after"},
	},
	{
		Name: "2^32-1 tagged fields in 20 bytes", Finding: "C5",
		Broker: []wire.Fault{wire.Key(kmsg.FindCoordinator, wire.Times(1, wire.Rewrite(kmsg.FindCoordinator, func(_ wire.Header, body []byte) []byte {
			return append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, make([]byte, 15)...)
		})))},
		Records: 10, Consume: true,
		Log: []string{"its response to FindCoordinator was refused: it claims 4294967295 tagged fields in 15 bytes", "is back after"},
	},
	{
		Name: "a batch claims 2^31-1 records", Finding: "C2",
		Broker:  []wire.Fault{batches(2, func(batch []byte) { binary.BigEndian.PutUint32(batch[57:], math.MaxInt32) })},
		Records: 10, Consume: true,
		Log: []string{"the batch at offset 0 of partition 0 was refused: it claims 2147483647 records", "topic topic partition 0"},
	},
	{
		Name: "a batch reaches offset 2^63-1", Finding: "C3",
		Broker:  []wire.Fault{batches(2, func(batch []byte) { binary.BigEndian.PutUint64(batch, math.MaxInt64) })},
		Records: 10, Consume: true,
		Log: []string{"the batch at offset 9223372036854775807 of partition 0 was refused: it reaches an offset that no log has",
			"topic topic partition 0"},
	},
	{
		Name: "a fetch is answered with replicas that do not have the partition", Finding: "C3",
		Kafka: []kfake.Opt{kfake.NumBrokers(3)},
		Broker: []wire.Fault{wire.Key(kmsg.Fetch, wire.Times(6, wire.Change(func(r *kmsg.FetchResponse) {
			for i := range r.Topics {
				for j := range r.Topics[i].Partitions {
					r.Topics[i].Partitions[j].PreferredReadReplica = int32(replica.Add(1) % 3)
				}
			}
		})))},
		Records: 10, Consume: true,
	},
	{
		Name: "Metadata leaves out the name of a topic", Finding: "C6",
		Broker: []wire.Fault{wire.Key(kmsg.Metadata, wire.Times(3, wire.Change(func(r *kmsg.MetadataResponse) {
			for i := range r.Topics {
				r.Topics[i].Topic = nil
			}
		})))},
		Records: 10, Consume: true,
		Log: []string{"its response to Metadata was refused: it leaves out the name of a topic", "is back after"},
	},
	{
		Name: "the end of a partition is offset 2^63-1", Finding: "C3",
		Broker: []wire.Fault{wire.Key(kmsg.ListOffsets, wire.Times(1, wire.Change(func(r *kmsg.ListOffsetsResponse) {
			r.Topics[0].Partitions[0].Offset = math.MaxInt64
		})))},
		Records: 10, Consume: true,
		Log: []string{"its response to ListOffsets was refused: it has the offset 9223372036854775807", "is back after"},
	},
	{
		Name: "a throttle time of 24 days for a producer", Finding: "C4",
		Broker:  []wire.Fault{wire.Change(func(r *kmsg.ProduceResponse) { r.ThrottleMillis = math.MaxInt32 })},
		Records: 1,
		Log:     []string{"it asks for a pause longer than 1m0s, which is cut to 1m0s"},
		Shown:   []string{"throttled by it for another"},
	},
	{
		Name: "a throttle time of 24 days is forgotten with a producer's connection", Finding: "C4",
		Broker: []wire.Fault{wire.Key(kmsg.Produce, wire.Times(1, wire.Change(func(r *kmsg.ProduceResponse) {
			r.ThrottleMillis = math.MaxInt32
		})))},
		Conf: []string{"durability = memory"},
		Steps: func(b *Bench) error {
			p, err := b.Open("tested")
			if err != nil {
				return err
			}
			p.Put("before")
			if _, err := p.Settled(); err != nil {
				return err
			}
			p.Put("after")
			b.Wire.End(wire.FIN)
			n, err := p.Settled()
			if err == nil && n != 2 {
				err = fmt.Errorf("%d of 2 records acknowledged", n)
			}
			return err
		},
		Patience: 40 * time.Second, // less than the pause
		Log:      []string{"it asks for a pause longer than 1m0s, which is cut to 1m0s"},
	},
	{
		Name: "a throttle time of 24 days is forgotten with a consumer's connection", Finding: "C4",
		Broker: []wire.Fault{wire.Key(kmsg.Fetch, wire.Times(1, wire.Change(func(r *kmsg.FetchResponse) {
			r.ThrottleMillis = math.MaxInt32
		})))},
		Steps: func(b *Bench) error {
			received := make(chan string, 1)
			if _, err := b.Subscribe("tested", func(m consume.Message) { received <- string(m.Value) }); err != nil {
				return err
			}
			if _, err := b.Log.Await(b.Ctx, "it asks for a pause longer than"); err != nil {
				return err
			}
			b.Wire.End(wire.FIN)
			p, err := b.Open("tested")
			if err != nil {
				return err
			}
			p.Put("after")
			_, err = world.Await(b.World, received)
			return err
		},
		Patience: 40 * time.Second,
		Log:      []string{"it asks for a pause longer than 1m0s, which is cut to 1m0s"},
	},
	{
		Name: "a throttle time of 1.5 s for a consumer", Finding: "C4",
		Broker: []wire.Fault{wire.Key(kmsg.FindCoordinator, wire.Change(func(r *kmsg.FindCoordinatorResponse) {
			r.ThrottleMillis = 1500
		}))},
		Records: 1, Consume: true,
		Log: []string{"it asks for a pause (does a quota of the cluster limit this user or client_id?"},
	},
}

// replica numbers the preferred replicas for a consumer.
var replica atomic.Int32

// batches changes the record batches of partition 0 in the first n responses with batches.
func batches(n int64, change func(batch []byte)) wire.Fault {
	var left atomic.Int64
	left.Store(n)
	return wire.Change(func(r *kmsg.FetchResponse) {
		for _, topic := range r.Topics {
			for _, partition := range topic.Partitions {
				if len(partition.RecordBatches) > 0 && left.Add(-1) >= 0 {
					change(partition.RecordBatches)
				}
			}
		}
	})
}
