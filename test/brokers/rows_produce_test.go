package brokers

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/metrics"
	records "reskafka/test/account"
	"reskafka/test/wire"
)

func init() { rows = append(rows, slices.Concat(requestRows(), longRecordRows())...) }

// requestRows are services with a limit for the length of a request, in front of a backlog. `make test` runs a sample.
func requestRows() (all []Row) {
	for _, limit := range []int{300_000, 1_046_528, 5_000_000} {
		for _, partitions := range []int32{2, 8} {
			for _, size := range []int{500, 200_000} {
				for _, idempotence := range []string{"no", "yes"} {
					for _, codec := range []string{"none", "gzip"} {
						sample := codec == "none" && idempotence == "yes" && (limit == 300_000) == (partitions == 8)
						if sample || os.Getenv("RES_KAFKA_LONG") != "" {
							all = append(all, requestRow(limit, partitions, size, "enable_idempotence = "+idempotence, "compression_codec = "+codec))
						}
					}
				}
			}
		}
	}
	return append(all, requestRow(1_046_528, 2, 500, "request_max_bytes = 2000000"))
}

// requestRow checks a service that closes the connection on requests over the limit: it gets 10 MB of
// records, after two closed connections at most, and the log names the limit's option.
func requestRow(limit int, partitions int32, size int, conf ...string) Row {
	var closed atomic.Int32
	var each sync.Map
	r := Row{
		Name: fmt.Sprintf("requests over %d bytes end the connection, %d partitions, records of %d bytes, %s", limit, partitions, size,
			strings.Join(conf, ", ")),
		Finding: "A1", Partitions: partitions, Conf: append(conf, "queue_buffering_max_messages = 100000"),
		Broker: []wire.Fault{{Size: func(c *wire.Conn, got int) {
			if got > limit {
				if _, again := each.LoadOrStore(c, true); !again {
					closed.Add(1)
				}
				c.End([]wire.Ending{wire.FIN, wire.RST}[closed.Load()%2])
			}
		}}},
		Log: []string{"it closed the connection after a request of", "see request_max_bytes", "is back after"},
	}
	if closes := limit < 1_000_000 || strings.Contains(conf[0], "request_max_bytes"); !closes || strings.Contains(strings.Join(conf, " "), "gzip") {
		r.Log = nil
	}
	r.Steps = func(b *Bench) error {
		p, err := b.Open("tested")
		if err != nil {
			return err
		}
		p.Key = func(value string) []byte { return []byte(value[:6]) }
		count := 10_000_000 / size
		values := make([]string, count)
		for i := range values {
			values[i] = fmt.Sprintf("%06d", i) + strings.Repeat("v", size-6)
		}
		p.Put(values...)
		if n, err := p.Settled(); err != nil || n != count {
			return fmt.Errorf("%d of %d records acknowledged, %d connections closed: %w", n, count, closed.Load(), err)
		}
		if n := closed.Load(); n > 2 {
			return fmt.Errorf("%d connections were closed", n)
		}
		return eachOnce(b, count)
	}
	return r
}

// eachOnce checks that the topic has each of count numbered records once, in order in each partition.
func eachOnce(b *Bench, count int) error {
	got, err := b.Read(count)
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, value := range got {
		if seen[value[:6]] {
			return fmt.Errorf("record %s came twice", value[:6])
		}
		seen[value[:6]] = true
	}
	return nil
}

// longRecordRows are services that end the connection on a request with a single record: because of its
// length, or on any.
func longRecordRows() (all []Row) {
	const limit, size = 1_046_528, 1_500_000
	for _, durability := range []string{"memory", "overflow", "disk"} {
		outcome := "dropped, message too large"
		if durability != "memory" {
			outcome = "became dead letters (kafka spool retry tested sends them again), message too large"
		}
		all = append(all, Row{
			Name:    fmt.Sprintf("requests over %d bytes end the connection, one record is longer, durability %s", limit, durability),
			Finding: "A1", Conf: []string{"message_max_bytes = 2000000", "durability = " + durability},
			Broker: []wire.Fault{wire.SizeLimit(limit, wire.FIN)},
			Steps:  func(b *Bench) error { return longRecords(b, 5, size, 1) },
			After: func(b *Bench) error {
				return b.Until("there is one dead letter", func() bool {
					spool, _ := b.Engine.Spool("tested")
					return durability == "memory" || spool.Numbers.Sum(metrics.SpoolDeadLetters) == 1
				})
			},
			Log: []string{"it closed the connection after a request of", "1 record(s) for topic 'topic' " + outcome +
				": the broker closed the connection after each request with this record alone, of 1500"},
		})
	}
	var closed atomic.Int32
	return append(all, Row{
		Name: "every request to produce ends the connection for a while, one record is long", Finding: "A1",
		Kafka: []kfake.Opt{kfake.BrokerConfigs(map[string]string{"message.max.bytes": "2000000"})},
		Conf:  []string{"message_max_bytes = 2000000", "durability = disk", "enable_idempotence = yes"},
		Broker: []wire.Fault{wire.Key(kmsg.Produce, wire.Fault{Request: func(c *wire.Conn, _ wire.Header) {
			if closed.Add(1) <= 14 {
				c.End(wire.FIN)
			}
		}})},
		Steps: func(b *Bench) error { return longRecords(b, 0, size, 0) },
		Log:   []string{"it closed the connection"},
	})
}

// longRecords produces 20 records, one with size bytes, and checks that all arrive in order, or all except
// the long record.
func longRecords(b *Bench, at, size, refused int) error {
	p, err := b.Open("tested")
	if err != nil {
		return err
	}
	values := Values(20)
	values[at] += strings.Repeat("v", size)
	p.Put(values...)
	want := slices.Delete(slices.Clone(values), at, at+refused)
	dead := uint64(0)
	err = b.Until("all records have an outcome", func() bool {
		status, _ := b.Engine.Connection("tested")
		dead = records.Of(status.Numbers).GivenUp()
		return status.Numbers.Sum(metrics.RecordsAcknowledged)+dead == uint64(len(values))
	})
	if err != nil || dead != uint64(refused) {
		return fmt.Errorf("%d records refused: %w", dead, err)
	}
	if got, err := b.Read(len(want)); err != nil || !slices.Equal(got, want) {
		return fmt.Errorf("the topic has %d records, not %d in order: %w", len(got), len(want), err)
	}
	return nil
}
