package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync"
	"time"

	"reskafka/test/apache"
	"reskafka/test/pbx"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"
)

// broker is a broker of both variants, in all rounds. It is started on first use.
type broker struct {
	start func(context.Context) (address string, stop func() error, err error)

	mu      sync.Mutex
	address string
	stop    func() error
	client  *kgo.Client
}

// swallowing returns an embedded broker that acknowledges and discards records.
func swallowing(command, dir string) *broker {
	return &broker{start: func(ctx context.Context) (string, func() error, error) {
		b, err := pbx.StartBroker(ctx, pbx.BrokerConfig{Command: command, Dir: dir, Partitions: partitions, Swallow: true})
		if err != nil {
			return "", nil, err
		}
		return b.Address, b.Stop, nil
	}}
}

// apacheKafka returns a node of Apache Kafka; jars is the folder of scripts/provision-kafka.
func apacheKafka(jars, dir string) *broker {
	return &broker{start: func(ctx context.Context) (string, func() error, error) {
		if jars == "" {
			return "", nil, errors.New("there is no Apache Kafka: RES_KAFKA_APACHE is not set")
		}
		cluster, err := apache.Start(ctx, apache.Config{Dir: dir, Kafka: jars, HeapMB: 1024})
		if err != nil {
			return "", nil, err
		}
		return cluster.Brokers(apache.Plaintext.Name), cluster.Close, nil
	}}
}

// newestApache returns the folder of the first version in RES_KAFKA_APACHE, or "".
func newestApache() string {
	first, _, _ := strings.Cut(os.Getenv("RES_KAFKA_APACHE"), ":")
	_, folder, _ := strings.Cut(first, "=")
	return folder
}

// up starts the broker unless running, and returns its address.
func (b *broker) up(ctx context.Context) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop != nil {
		return b.address, nil
	}
	address, stop, err := b.start(ctx)
	if err != nil {
		return "", err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(address, ",")...), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return "", errors.Join(fmt.Errorf("making a client of the broker: %w", err), stop())
	}
	b.address, b.stop, b.client = address, stop, client
	return address, nil
}

func (b *broker) down() error {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.stop == nil {
		return nil
	}
	b.client.Close()
	err := b.stop()
	b.stop = nil
	return err
}

// partitions is the number of partitions of a single topic.
const partitions = 3

// names returns the topics of a word in a command of kafka_bench: the word itself, or the word with numbers.
func names(topic string, count int) []string {
	if count <= 1 {
		return []string{topic}
	}
	all := make([]string, count)
	for i := range all {
		all[i] = topic + "-" + strconv.Itoa(i)
	}
	return all
}

// create creates topics, so their creation is outside all measurements.
func (b *broker) create(ctx context.Context, topics []string) error {
	each := int32(partitions)
	if len(topics) > 1 {
		each = 1
	}
	made, err := kadm.NewClient(b.client).CreateTopics(ctx, each, 1, nil, topics...)
	if err == nil {
		err = made.Error()
	}
	if err != nil {
		return fmt.Errorf("creating topics: %w", err)
	}
	return nil
}

// remove frees the disk space of topics.
func (b *broker) remove(ctx context.Context, topics []string) error {
	if _, err := kadm.NewClient(b.client).DeleteTopics(ctx, topics...); err != nil {
		return fmt.Errorf("removing topics: %w", err)
	}
	return nil
}

// arrived is how many records topics have had.
func (b *broker) arrived(ctx context.Context, topics []string) (int64, error) {
	ends, err := kadm.NewClient(b.client).ListEndOffsets(ctx, topics...)
	if err == nil {
		err = ends.Error()
	}
	if err != nil {
		return 0, fmt.Errorf("asking for the ends of topics: %w", err)
	}
	var total int64
	ends.Each(func(end kadm.ListedOffset) { total += end.Offset })
	return total, nil
}

const (
	// pollEvery is the interval of questions for the last record: the maximum error of a throughput.
	pollEvery = 5 * time.Millisecond
	// arrivalTimeout is the limit of the wait for all records.
	arrivalTimeout = 2 * time.Minute
)

// await waits until topics have count() records, and returns the time. Questions take processor time from the
// measurement, so slow questions are asked less often.
func (b *broker) await(ctx context.Context, topics []string, count func() int64) (time.Time, error) {
	ctx, cancel := context.WithTimeout(ctx, arrivalTimeout)
	defer cancel()
	for {
		asked := time.Now()
		total, err := b.arrived(ctx, topics)
		if err != nil {
			return time.Time{}, err
		}
		now := time.Now()
		if total >= count() {
			return now, nil
		}
		select {
		case <-ctx.Done():
			return time.Time{}, fmt.Errorf("%d of %d records have come: %w", total, count(), ctx.Err())
		case <-time.After(max(pollEvery, 4*now.Sub(asked))):
		}
	}
}
