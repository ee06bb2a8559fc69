package brokers

import (
	"fmt"
	"os"
	"slices"
	"strings"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/metrics"
	"reskafka/test/world"
)

func init() { rows = append(rows, rightsRows()...) }

// rightsRows are users without a right to write, or with a right revoked and granted again.
func rightsRows() (all []Row) {
	for _, durability := range []string{"memory", "overflow", "disk"} {
		all = append(all, Row{
			Name: "the right to write is taken away and given back, durability " + durability, Finding: "A2",
			Conf:  []string{"durability = " + durability, "spool_max_mbytes = 8"},
			Steps: rightTakenAway, Patience: 3 * time.Minute,
			Log: []string{"topic topic: TOPIC_AUTHORIZATION_FAILED: this user is not authorized to write to the topic"},
		})
	}
	return append(all, Row{
		Name: "the right to write never comes, records in memory", Finding: "A2",
		Conf: []string{"durability = memory", "message_timeout_ms = 1000"},
		Steps: func(b *Bench) error {
			p, _, err := b.withoutRight()
			if err != nil {
				return err
			}
			p.Put(Values(100)...)
			if n, err := p.Settled(); err != nil || n != 0 {
				return fmt.Errorf("%d records acknowledged: %w", n, err)
			}
			return nil
		},
		Log: []string{"topic topic: TOPIC_AUTHORIZATION_FAILED: this user is not authorized to write to the topic", "dropped, message timeout: TOPIC_AUTHORIZATION_FAILED"},
	}, Row{
		Name: "the right to write never comes, records on disk", Finding: "A2",
		Conf: []string{"durability = disk", "spool_max_mbytes = 8", "queue_buffering_max_messages = 1000"},
		Steps: func(b *Bench) error {
			p, _, err := b.withoutRight()
			if err != nil {
				return err
			}
			value := strings.Repeat("v", 1000)
			accepted := 0
			full := func() bool { return p.HeldFrames.Load() >= p.MaxFrames.Load() } // callers are refused from then on
			// Waiting for the disk keeps a slow disk from looking like a queue without a limit.
			onDisk := func() bool { return full() || p.HeldFrames.Load() < 1000 }
			for !full() {
				p.Put(value)
				if accepted++; accepted > 50_000 {
					return fmt.Errorf("%d records were accepted", accepted)
				}
				if err := b.Until("records are on disk or the queue is full", onDisk); err != nil {
					return err
				}
			}
			spool, ok := b.Engine.Spool("tested")
			n := spool.Numbers
			if dead, bytes, records := n.Sum(metrics.SpoolDeadLetters), n.Sum(metrics.SpoolBytes), n.Sum(metrics.RecordsSpooled); !ok ||
				dead != 0 || bytes > 9<<20 || records < 5000 {
				return fmt.Errorf("%d accepted, spool of %d bytes with %d records and %d dead letters", accepted, bytes, records, dead)
			}
			return nil
		},
		Log: []string{"topic topic: TOPIC_AUTHORIZATION_FAILED: this user is not authorized to write to the topic", "spool"},
	})
}

// withoutRight has every record refused while the result is set.
func (b *Bench) withoutRight() (p *world.Producer, refused *atomic.Bool, err error) {
	refused = &atomic.Bool{}
	refused.Store(true)
	b.Kafka.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		b.Kafka.KeepControl()
		produce := req.(*kmsg.ProduceRequest)
		if !refused.Load() {
			return nil, nil, false
		}
		answer := produce.ResponseKind().(*kmsg.ProduceResponse)
		for _, t := range produce.Topics {
			topic := kmsg.NewProduceResponseTopic()
			topic.Topic, topic.TopicID = t.Topic, t.TopicID
			for _, one := range t.Partitions {
				partition := kmsg.NewProduceResponseTopicPartition()
				partition.Partition, partition.ErrorCode = one.Partition, kerr.TopicAuthorizationFailed.Code
				topic.Partitions = append(topic.Partitions, partition)
			}
			answer.Topics = append(answer.Topics, topic)
		}
		return answer, nil, true
	})
	p, err = b.Open("tested")
	return p, refused, err
}

// rightTakenAway revokes the right under load, for a second or, with RES_KAFKA_LONG, for a minute. No record
// is lost, dead-lettered or reordered, and a single earlier refusal costs nothing.
func rightTakenAway(b *Bench) error {
	away, every := time.Second, 5*time.Millisecond
	if os.Getenv("RES_KAFKA_LONG") != "" {
		away = time.Minute
	}
	p, refused, err := b.withoutRight()
	if err != nil {
		return err
	}
	refused.Store(false)
	var values []string
	load := func(d time.Duration) {
		tick := time.NewTicker(every)
		defer tick.Stop()
		for n := int(d / every); n > 0; n-- {
			<-tick.C
			values = append(values, fmt.Sprintf("%06d %s", len(values), strings.Repeat("v", 150)))
			p.Put(values[len(values)-1])
		}
	}
	load(away / 10)
	refused.Store(true)
	load(away)
	refused.Store(false)
	load(away / 10)
	n, err := p.Settled()
	if p.HeldFrames.Load() == 0 { // also when records are on disk
		err = b.Until("all records are acknowledged", func() bool {
			status, _ := b.Engine.Connection("tested")
			n = int(status.Numbers.Sum(metrics.RecordsAcknowledged))
			return n == len(values)
		})
	}
	if err != nil {
		return fmt.Errorf("%d of %d records acknowledged: %w", n, len(values), err)
	}
	if spool, ok := b.Engine.Spool("tested"); ok && spool.Numbers.Sum(metrics.SpoolDeadLetters) != 0 {
		return fmt.Errorf("%d dead letters", spool.Numbers.Sum(metrics.SpoolDeadLetters))
	}
	if got, err := b.Read(len(values)); err != nil || !slices.Equal(got, values) {
		return fmt.Errorf("the topic has %d records, not %d in order: %w", len(got), len(values), err)
	}
	b.Logf("%d records, right away for %s: all acknowledged in order, no dead letter", len(values), away)
	return nil
}
