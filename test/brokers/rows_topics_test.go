package brokers

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/consume"
	"reskafka/internal/metrics"
	"reskafka/test/wire"
	"reskafka/test/world"
)

func init() { rows = append(rows, topicRows...) }

// topicRows are brokers with untrue metadata.
var topicRows = []Row{
	emptyTopic(),
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
				surplus.Partition = 1 // the partition of the key of the bench's records
				t.Partitions = append(t.Partitions, surplus)
			}
		}
	})
}

// unknownTopic is a missing topic, never created, with records on disk. The log line comes after half a
// minute.
var unknownTopic = Row{
	Name: "a topic that nobody creates", Finding: "A7",
	Kafka: []kfake.Opt{kfake.BrokerConfigs(map[string]string{"auto.create.topics.enable": "false"})},
	Conf:  []string{"durability = disk"},
	Steps: func(b *Bench) error {
		b.Topic = "calls"
		p, err := b.Open("tested")
		if err != nil {
			return err
		}
		values := Values(10)
		p.Put(values...)
		if _, err := b.Log.Await(b.Ctx, "topic calls: UNKNOWN_TOPIC_OR_PARTITION"); err != nil {
			return err
		}
		if shown := b.Show("tested"); !strings.Contains(shown, "Topics in trouble:") || !strings.Contains(shown, "kafka topic create") {
			return fmt.Errorf("kafka show connection says\n%s", shown)
		}
		if text := b.Command("kafka", "topic", "create", "tested", "calls", "partitions", "3"); text != "Topic calls created\n" {
			return fmt.Errorf("kafka topic create says %q", text)
		}
		err = b.Until("all records are acknowledged", func() bool {
			status, _ := b.Engine.Connection("tested")
			return status.Numbers.Sum(metrics.RecordsAcknowledged) == uint64(len(values))
		})
		if err != nil {
			return err
		}
		_, err = b.Log.Await(b.Ctx, "topic calls works again after")
		if shown := b.Show("tested"); err == nil && strings.Contains(shown, "Topics in trouble:") {
			err = fmt.Errorf("kafka show connection still says\n%s", shown)
		}
		return err
	},
	Log: []string{"topic calls: UNKNOWN_TOPIC_OR_PARTITION"},
}

// TestUnknownTopic takes longer than the rows of TestBrokers may.
func TestUnknownTopic(t *testing.T) {
	if os.Getenv("RES_KAFKA_LONG") == "" {
		t.Skip("skipped: it takes half a minute; make test-long runs it")
	}
	t.Parallel()
	unknownTopic.Check(t)
}

// emptyTopic lists a topic without partitions until both sides have said so.
func emptyTopic() Row {
	const consumers, producers = "topic topic, which group group subscribes to: the brokers list it without partitions",
		"connection tested: topic topic: the brokers list it without partitions"
	var over atomic.Bool
	return Row{
		Name: "a topic without partitions", Finding: "C6",
		Broker: []wire.Fault{wire.While(func(wire.Header) bool { return !over.Load() }, wire.Change(func(r *kmsg.MetadataResponse) {
			for i := range r.Topics {
				r.Topics[i].Partitions = nil
			}
		}))},
		Steps: func(b *Bench) error {
			values, received := Values(10), make(chan string, 10)
			if _, err := b.Subscribe("tested", func(m consume.Message) { received <- string(m.Value) }); err != nil {
				return err
			}
			p, err := b.Open("tested")
			if err != nil {
				return err
			}
			p.Put(values...)
			for _, text := range []string{consumers, producers} {
				if _, err := b.Log.Await(b.Ctx, text); err != nil {
					return err
				}
			}
			over.Store(true)
			if n, err := p.Settled(); err != nil || n != len(values) {
				return fmt.Errorf("%d of %d records acknowledged: %v", n, len(values), err)
			}
			for _, want := range values {
				if got, err := world.Await(b.World, received); err != nil || got != want {
					return fmt.Errorf("message %q, want %q: %v", got, want, err)
				}
			}
			return nil
		},
		Log: []string{consumers, producers},
	}
}
