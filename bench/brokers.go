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

// endpoints are the addresses of a broker.
type endpoints struct {
	near string                   // direct
	far  map[time.Duration]string // through a link, by the link's round trip
}

// broker is a broker of both variants, in all rounds. It is started on first use.
type broker struct {
	start func(context.Context) (endpoints, func() error, error)

	mu     sync.Mutex
	at     endpoints
	stop   func() error
	client *kgo.Client // direct
}

// swallowing returns an embedded broker that acknowledges and discards records.
func swallowing(command, dir string) *broker {
	return &broker{start: func(ctx context.Context) (endpoints, func() error, error) {
		b, err := pbx.StartBroker(ctx, pbx.BrokerConfig{Command: command, Dir: dir, Partitions: partitions, Swallow: true})
		if err != nil {
			return endpoints{}, nil, err
		}
		return endpoints{near: b.Address}, b.Stop, nil
	}}
}

// apacheKafka returns a node of Apache Kafka; jars is the folder of scripts/provision-kafka. Each link has a
// listener, which advertises the link's address.
func apacheKafka(jars, dir string) *broker {
	return &broker{start: func(ctx context.Context) (at endpoints, stop func() error, err error) {
		if jars == "" {
			return at, nil, errors.New("there is no Apache Kafka: RES_KAFKA_APACHE is not set")
		}
		links, err := newLinks()
		if err != nil {
			return at, nil, err
		}
		cluster, err := apache.Start(ctx, apache.Config{Dir: dir, Kafka: jars, HeapMB: 1024, Listeners: links.listeners()})
		if err != nil {
			return at, nil, errors.Join(err, links.close())
		}
		at = endpoints{near: cluster.Brokers(apache.Plaintext.Name), far: links.lead(cluster)}
		return at, func() error { return errors.Join(links.close(), cluster.Close()) }, nil
	}}
}

// newestApache returns the folder of the first version in RES_KAFKA_APACHE, or "".
func newestApache() string {
	first, _, _ := strings.Cut(os.Getenv("RES_KAFKA_APACHE"), ":")
	_, folder, _ := strings.Cut(first, "=")
	return folder
}

// up starts the broker unless running, and returns its address for clients without a link.
func (b *broker) up(ctx context.Context) (string, error) { return b.over(ctx, 0) }

// over starts the broker unless running, and returns its address at the end of the link with this round trip; 0 =
// without a link.
func (b *broker) over(ctx context.Context, roundTrip time.Duration) (string, error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if err := b.runLocked(ctx); err != nil {
		return "", err
	}
	if roundTrip == 0 {
		return b.at.near, nil
	}
	address, found := b.at.far[roundTrip]
	if !found {
		return "", fmt.Errorf("there is no link of %v to this broker", roundTrip)
	}
	return address, nil
}

func (b *broker) runLocked(ctx context.Context) error {
	if b.stop != nil {
		return nil
	}
	at, stop, err := b.start(ctx)
	if err != nil {
		return err
	}
	client, err := kgo.NewClient(kgo.SeedBrokers(strings.Split(at.near, ",")...), kgo.RecordPartitioner(kgo.RoundRobinPartitioner()))
	if err != nil {
		return errors.Join(fmt.Errorf("making a client of the broker: %w", err), stop())
	}
	b.at, b.stop, b.client = at, stop, client
	return nil
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
	if len(topics) > 1 {
		return b.createWith(ctx, 1, topics)
	}
	return b.createWith(ctx, partitions, topics)
}

func (b *broker) createWith(ctx context.Context, partitions int, topics []string) error {
	made, err := kadm.NewClient(b.client).CreateTopics(ctx, int32(partitions), 1, nil, topics...)
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
