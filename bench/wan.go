package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"time"

	"reskafka/test/apache"
	"reskafka/test/wan"
)

// distances are the round trips of the links.
var distances = []time.Duration{50 * time.Millisecond, 100 * time.Millisecond}

const (
	farBacklog = 200_000 // records in a round
	farSeconds = 5       // of a round at farRate
	farRate    = 300
)

// wanRows measure a broker at a distance. The topics have few partitions, because a partition's batches under way
// are the subject.
func wanRows() []row {
	variants := []variant{ours, reference}
	late := func(key, label string) metric {
		return metric{key: key, label: label, unit: "ms", scale: 1e-6, headline: true}
	}
	var all []row
	for _, roundTrip := range distances {
		note := sync.OnceValues(func() (string, error) { return describe(roundTrip) })
		name := fmt.Sprintf("WAN %d ms", roundTrip.Milliseconds())
		for _, partitions := range []int{1, 8} {
			// With idempotence librdkafka compares the messages of a partition under way, not the requests, with its
			// limit of five: a full batch blocks the next one, and its thread polls until the answer.
			for _, idempotence := range []string{"no", "yes"} {
				l := load{
					broker: kafka, bytes: 300, count: farBacklog, threads: 1, partitions: partitions, roundTrip: roundTrip,
					settings: settings{"enable_idempotence": idempotence},
				}
				r := row{
					name: fmt.Sprintf("%s, %s", name, counted(partitions, "partition")), variants: variants, measure: l.measure, note: note,
					about:   fmt.Sprintf("a backlog of %s messages, to %s of Apache Kafka", thousands(l.count), counted(partitions, "partition")),
					metrics: []metric{throughput.must(ratioAtLeast, 1), millionCPU},
				}
				if idempotence == "yes" {
					r.name, r.about = r.name+", idempotent", r.about+", enable_idempotence = yes. librdkafka then has one batch of a partition under way"
				}
				all = append(all, r)
			}
		}
		all = append(all, row{
			name: fmt.Sprintf("%s, %d/s", name, farRate), variants: variants, note: note,
			about:   fmt.Sprintf("%d calls a second from one thread, to one partition of Apache Kafka, with a consumer beside the broker", farRate),
			measure: func(ctx context.Context, r *round) error { return measureDelivery(ctx, r, roundTrip) },
			metrics: []metric{
				late("p50_ns", "to the consumer, median").must(ratioAtMost, 1.1), late("p99_ns", "to the consumer, p99").must(ratioAtMost, 1.1),
				late("max_ns", "to the consumer, longest"),
			},
		})
	}
	return all
}

// describe measures a link. Its throughput is a condition of the rows: it must be above the throughput of both
// variants.
func describe(roundTrip time.Duration) (string, error) {
	const rounds, volume = 5, 100 << 20
	q, err := wan.Probe(roundTrip/2, rounds, volume)
	if err != nil {
		return "", fmt.Errorf("measuring the link: %w", err)
	}
	ms := func(d time.Duration) string { return number(float64(d)/1e6, 4) }
	return fmt.Sprintf("The link alone: a byte there and back in %s ms (longest %s), %.0f MB/s",
		ms(q.RoundTrip), ms(q.Longest), q.BytesPerSecond/1e6), nil
}

// counted renders a count of things.
func counted(n int, thing string) string {
	if n != 1 {
		thing += "s"
	}
	return fmt.Sprintf("%d %s", n, thing)
}

// links are the links of a broker, in the order of distances.
type links []*wan.Link

func newLinks() (links, error) {
	var all links
	for _, roundTrip := range distances {
		link, err := wan.New(roundTrip / 2)
		if err != nil {
			return nil, errors.Join(err, all.close())
		}
		all = append(all, link)
	}
	return all, nil
}

// listeners returns the usual listener and one for each link.
func (l links) listeners() []apache.Listener {
	all := []apache.Listener{apache.Plaintext}
	for i, link := range l {
		all = append(all, apache.Listener{Name: "WAN" + strconv.Itoa(i), Protocol: "PLAINTEXT", Advertised: []string{link.Address()}})
	}
	return all
}

// lead sets the targets of the links, and returns their addresses by the round trip.
func (l links) lead(cluster *apache.Cluster) map[time.Duration]string {
	far := map[time.Duration]string{}
	for i, listener := range l.listeners()[1:] {
		l[i].Use(cluster.Address(1, listener.Name))
		far[distances[i]] = l[i].Address()
	}
	return far
}

func (l links) close() error {
	var err error
	for _, link := range l {
		err = errors.Join(err, link.Close())
	}
	return err
}

// measureDelivery times messages from the call to a consumer in this process, which has no link.
func measureDelivery(ctx context.Context, r *round, roundTrip time.Duration) error {
	b := r.bench.apache
	address, err := b.over(ctx, roundTrip)
	if err != nil {
		return err
	}
	topic := r.topic("far")
	if err := b.createWith(ctx, 1, []string{topic}); err != nil {
		return err
	}
	if err := r.start(ctx, launch{brokers: address}); err != nil {
		return err
	}
	// Connections and metadata exist before the measurement.
	const early = 20
	if _, err := r.command("produce %s %s 300 %d %d 1", connection, topic, early, early); err != nil {
		return err
	}
	if _, err := b.await(ctx, []string{topic}, func() int64 { return early }); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	arriving, err := arrivalsOf(ctx, b.at.near, topic)
	if err != nil {
		return err
	}
	r.values, err = r.command("send %s %s %d %g", connection, topic, farRate, max(farSeconds*r.bench.share, 1))
	times, missing := arriving.stop(ctx, early+int(r.values["calls"]-r.values["refused"]))
	if err = errors.Join(err, missing, b.remove(ctx, []string{topic})); err != nil {
		return err
	}
	slices.Sort(times)
	for key, share := range map[string]float64{"p50_ns": 0.5, "p99_ns": 0.99, "max_ns": 1} {
		r.values[key] = percentile(times, share)
	}
	return nil
}
