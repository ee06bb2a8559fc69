package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"reskafka/test/pbx"
	"reskafka/test/port"
	"reskafka/test/wan"
)

// spoolRows measure the end of an outage.
func spoolRows() []row {
	drained := throughput
	drained.label = "drained, messages"
	all := row{
		name: "spool, 1,000,000 messages", variants: []variant{disk, reference}, measure: measureSpool,
		about: "a million messages of durability = disk, in the spool after a restart of Asterisk, from the first message at the broker " +
			"to the last; librdkafka, without a disk or a restart, has them in memory",
	}
	for _, m := range []metric{drained, millionCPU, {key: "peak_kb", label: "peak of resident memory", unit: "MB", scale: 1.0 / 1024}} {
		m.of = disk
		all.metrics = append(all.metrics, m)
	}
	return []row{all}
}

// measureSpool produces many messages for an unreachable broker, and measures from the time when the broker can be
// reached. The unreachable address is the bootstrap address only; the broker advertises its own.
func measureSpool(ctx context.Context, r *round) (err error) {
	b := r.bench.swallow
	address, err := b.up(ctx)
	if err != nil {
		return err
	}
	topics := []string{r.topic("spool")}
	if err := b.create(ctx, topics); err != nil {
		return err
	}
	shut, err := port.Reserve()
	if err != nil {
		return err
	}
	defer shut.Close()
	accepted, err := r.fillSpool(ctx, shut.Address(), topics[0])
	if err != nil {
		return err
	}
	before, err := r.usage()
	if err != nil {
		return err
	}
	listener, err := shut.Listen()
	if err != nil {
		return err
	}
	door := wan.On(listener, 0)
	defer func() { err = errors.Join(err, door.Close()) }()
	door.Use(address)
	began, first, err := b.begin(ctx, topics)
	if err != nil {
		return err
	}
	ended, err := b.await(ctx, topics, func() int64 { return accepted })
	if err != nil {
		return err
	}
	after, err := r.usage()
	r.values = values{
		"per_second":  float64(accepted-first) / ended.Sub(began).Seconds(),
		"cpu_us_each": (after["user_us"] + after["system_us"] - before["user_us"] - before["system_us"]) / float64(accepted),
		"peak_kb":     after["peak_kb"],
	}
	return errors.Join(err, b.remove(ctx, topics))
}

// fillSpool starts Asterisk and returns the number of its waiting messages. With a disk it restarts Asterisk, so the
// messages are on disk only.
func (r *round) fillSpool(ctx context.Context, broker, topic string) (accepted int64, err error) {
	soon := settings{"reconnect_backoff_ms": "100", "reconnect_backoff_max_ms": "100"}
	if err := r.start(ctx, launch{brokers: broker, settings: soon}); err != nil {
		return 0, err
	}
	// Not flat out: refused messages do not wait.
	l := load{bytes: 300, count: waiting, perSecond: waiting / 4, threads: 1, topics: 1, connections: 1}.scaled(r.bench.share)
	found, err := l.produce(r, topic)
	if err != nil {
		return 0, err
	}
	if r.variant == disk {
		if err := errors.Join(r.asterisk.Stop(pbx.Now), r.asterisk.Start(ctx)); err != nil {
			return 0, fmt.Errorf("restarting Asterisk: %w", err)
		}
	}
	return int64(found["calls"] - found["refused"]), sleep(ctx, settling)
}

// begin waits for the first records of topics, and returns the time and their number.
func (b *broker) begin(ctx context.Context, topics []string) (time.Time, int64, error) {
	ctx, cancel := context.WithTimeout(ctx, arrivalTimeout)
	defer cancel()
	for {
		total, err := b.arrived(ctx, topics)
		if err == nil && total == 0 {
			err = sleep(ctx, pollEvery)
		}
		if err != nil || total > 0 {
			return time.Now(), total, err
		}
	}
}
