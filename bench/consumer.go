package main

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/twmb/franz-go/pkg/kgo"
)

const (
	latencyRate    = 300
	latencySeconds = 5
	drainCount     = 1_000_000
)

// consumerRows measure messages from Apache Kafka.
func consumerRows() []row {
	both := []variant{ours, reference}
	late := metric{unit: "ms", scale: 1e-6, headline: true}
	at := func(key, label string) metric {
		m := late
		m.key, m.label = key, label
		return m
	}
	var filled topicOnce
	return []row{
		{
			name: "consumer, 300/s", about: "from the call that produces to the callback, linger_ms = 0, Apache Kafka", variants: both, measure: measureLatency,
			metrics: []metric{
				at("p50_ns", "to the callback, median").must(absoluteAtMost, 2), at("p99_ns", "to the callback, p99").must(absoluteAtMost, 10),
				at("max_ns", "to the callback, longest"),
			},
		},
		{
			name: "consumer, 1,000,000 messages", about: "drains a topic of Apache Kafka, from the first callback to the last", variants: both,
			measure: func(ctx context.Context, r *round) error { return measureDrain(ctx, r, &filled) },
			metrics: []metric{
				{key: "callbacks_per_second", label: "callbacks", unit: "1,000/s", scale: 1e-3, headline: true, more: true, goal: goal{ratioAtLeast, 1.5}},
				{key: "seconds_in_all", label: "from subscribing to the last", unit: "s"}, millionCPU,
			},
		},
	}
}

// measureLatency produces and consumes in a single Asterisk.
func measureLatency(ctx context.Context, r *round) error {
	address, err := r.bench.apache.up(ctx)
	if err != nil {
		return err
	}
	topic := r.topic("latency")
	if err := r.bench.apache.create(ctx, []string{topic}); err != nil {
		return err
	}
	if err := r.start(ctx, launch{brokers: address, settings: settings{"linger_ms": "0", "group_id": topic, "auto_offset_reset": "earliest"}}); err != nil {
		return err
	}
	seconds := max(latencySeconds*r.bench.share, 1)
	r.values, err = r.command("latency %s %s %s %d %g", connection, connection, topic, latencyRate, seconds)
	if err == nil && r.values["arrived"] < r.values["calls"]-r.values["refused"] {
		err = fmt.Errorf("%g of %g messages have come", r.values["arrived"], r.values["calls"])
	}
	return errors.Join(err, r.bench.apache.remove(ctx, []string{topic}))
}

// topicOnce is a topic filled on first use.
type topicOnce struct {
	mu   sync.Mutex
	name string
}

// get returns the topic with count records.
func (t *topicOnce) get(ctx context.Context, r *round, count int) (string, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.name != "" {
		return t.name, nil
	}
	name := r.topic("full")
	if err := r.bench.apache.create(ctx, []string{name}); err != nil {
		return "", err
	}
	if err := fill(ctx, r.bench.apache.client, name, count); err != nil {
		return "", err
	}
	t.name = name
	return name, nil
}

// fill produces records of 300 bytes similar to call records.
func fill(ctx context.Context, client *kgo.Client, topic string, count int) error {
	var failed error
	var once sync.Once
	for i := range count {
		value := fmt.Appendf(nil, `{"uniqueid":"pbx1-%d.%d","src":"+4930%07d","dst":"%d","disposition":"ANSWERED","duration":%d,"n":"`, 1763800000+i/7, i, i*7919%10000000, 100+i%900, i%600)
		value = append(fmt.Appendf(value, "%0*d", 300-2-len(value), i), `"}`...)
		client.Produce(ctx, &kgo.Record{Topic: topic, Key: fmt.Appendf(nil, "pbx1-%d", i%1000), Value: value}, func(_ *kgo.Record, err error) {
			if err != nil {
				once.Do(func() { failed = err })
			}
		})
	}
	if err := client.Flush(ctx); err != nil {
		return fmt.Errorf("filling topic %s: %w", topic, err)
	}
	if failed != nil {
		return fmt.Errorf("filling topic %s: %w", topic, failed)
	}
	return nil
}

// measureDrain reads a full topic from the beginning, in a new group.
func measureDrain(ctx context.Context, r *round, filled *topicOnce) error {
	address, err := r.bench.apache.up(ctx)
	if err != nil {
		return err
	}
	count := max(1000, int(drainCount*r.bench.share))
	topic, err := filled.get(ctx, r, count)
	if err != nil {
		return err
	}
	if err := r.start(ctx, launch{brokers: address, settings: settings{"group_id": r.topic("group"), "auto_offset_reset": "earliest"}}); err != nil {
		return err
	}
	before, err := r.usage()
	if err != nil {
		return err
	}
	found, err := r.command("drain %s %s %d", connection, topic, count)
	if err != nil {
		return err
	}
	after, err := r.usage()
	found["callbacks_per_second"] = (found["arrived"] - 1) / found["seconds"]
	found["cpu_us_each"] = (after["user_us"] + after["system_us"] - before["user_us"] - before["system_us"]) / found["arrived"]
	r.values = found
	return err
}
