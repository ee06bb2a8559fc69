package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"
)

// load is the production of a round, by `kafka bench produce`.
type load struct {
	broker      func(*bench) *broker
	bytes       int
	perSecond   int // 0 = flat out
	count       int
	threads     int
	topics      int // 0 = 1
	connections int // 0 = 1
	settings    settings

	partitions int           // of a single topic; 0 = the constant
	roundTrip  time.Duration // of the link to the broker; 0 = none
}

// scaled returns the load with a share of its messages.
func (l load) scaled(share float64) load {
	l.count = max(l.topics, l.connections, l.threads, 20, int(float64(l.count)*share))
	return l
}

// measure runs the row of a load: a fresh Asterisk, a small load to make connections and metadata, then the
// load.
func (l load) measure(ctx context.Context, r *round) error {
	address, err := l.broker(r.bench).over(ctx, l.roundTrip)
	if err != nil {
		return err
	}
	if err := r.start(ctx, launch{brokers: address, numbered: l.connections, settings: l.settings}); err != nil {
		return err
	}
	found, err := l.run(ctx, r, r.topic("load"))
	r.values = found
	return err
}

// run puts the load on a running Asterisk.
func (l load) run(ctx context.Context, r *round, topic string) (values, error) {
	l = l.scaled(r.bench.share)
	l.topics, l.connections = max(l.topics, 1), max(l.connections, 1)
	b, topics := l.broker(r.bench), names(topic, l.topics)
	if err := l.create(ctx, b, topics); err != nil {
		return nil, err
	}
	warm := l
	warm.perSecond, warm.count = 0, max(l.topics, l.connections, l.threads, min(2000, 20_000_000/l.bytes))
	if _, err := warm.produce(r, topic); err != nil {
		return nil, err
	}
	if _, err := b.await(ctx, topics, func() int64 { return int64(warm.count) }); err != nil {
		return nil, fmt.Errorf("warming up: %w", err)
	}
	// The engine's usage at this point is its usage at the begin of the calls: no record waits.
	engine, err := usedBy(r.asterisk.EnginePID())
	if err != nil {
		return nil, err
	}
	found, all, err := l.produceAndAwait(ctx, r, topic, warm.count)
	if err != nil {
		return nil, err
	}
	found["begun_user_us"] += float64(engine.cpu.Microseconds())
	found["begun_voluntary"] += float64(engine.voluntary)
	after, err := r.usage()
	if err != nil {
		return nil, err
	}
	l.derive(found, after, all.Sub(time.Unix(0, int64(found["begun_ns"]))).Seconds())
	return found, b.remove(ctx, topics)
}

func (l load) create(ctx context.Context, b *broker, topics []string) error {
	if l.partitions > 0 {
		return b.createWith(ctx, l.partitions, topics)
	}
	return b.create(ctx, topics)
}

// produce makes the calls, and returns at their end.
func (l load) produce(r *round, topic string) (values, error) {
	return r.command("produce %s %s %d %d %d %d %d %d", connection, topic, l.bytes, l.perSecond, l.count, l.threads, l.topics, l.connections)
}

// produceAndAwait makes the calls and returns the time when the last accepted record reached the broker,
// which had `before` records. Flat out it polls during the calls, because the last record may arrive before
// the command's end. At a steady rate it polls afterwards, because the time has no use and polling costs
// processor time.
func (l load) produceAndAwait(ctx context.Context, r *round, topic string, before int) (values, time.Time, error) {
	b, topics := l.broker(r.bench), names(topic, l.topics)
	type arrival struct {
		at  time.Time
		err error
	}
	arrived := make(chan arrival, 1)
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var wanted atomic.Int64
	wanted.Store(int64(before + l.count))
	await := func() {
		at, err := b.await(ctx, topics, wanted.Load)
		arrived <- arrival{at, err}
	}
	early := l.perSecond == 0
	if early {
		go await()
	}
	found, err := l.produce(r, topic)
	if err != nil {
		return nil, time.Time{}, err
	}
	wanted.Add(-int64(found["refused"])) // refused records never arrive
	if !early {
		await()
	}
	a := <-arrived
	return found, a.at, a.err
}

// derive adds values derived from the usage at the begin of the calls and afterwards: everything counts until
// the last record is at the broker, arrival seconds after the first call's begin.
func (l load) derive(found, after values, arrival float64) {
	accepted := found["calls"] - found["refused"]
	used := func(names ...string) (sum float64) {
		for _, name := range names {
			sum += after[name] - found["begun_"+name]
		}
		return sum
	}
	cpu := used("user_us", "system_us")
	found["per_second"] = accepted / arrival
	found["cpu_us_each"] = cpu / accepted
	// Relative to the duration of the calls: later work is part of their cost.
	found["cpu_share"] = cpu / 1e6 / found["seconds"]
	found["voluntary_per_second"] = used("voluntary") / found["seconds"]
	for _, name := range []string{"resident_kb", "peak_kb", "threads"} {
		found[name] = after[name]
	}
}
