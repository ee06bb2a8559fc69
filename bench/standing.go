package main

import (
	"context"
	"fmt"
	"time"

	"reskafka/test/pbx"
)

const (
	idleConnections  = 10
	startConnections = 50
	waiting          = 1_000_000
	// settling is the time until an Asterisk counts as idle: the first requests of each connection are over
	// by then.
	settling = 2 * time.Second
	// idling is the time of observation.
	idling = 5 * time.Second
)

// standingRows measure the module's cost at rest, and without a broker.
func standingRows() []row {
	resident := metric{key: "resident_kb", label: "resident memory", unit: "MB", scale: 1.0 / 1024, headline: true}
	threads := metric{key: "threads", label: "threads"}
	idleCPU := metric{key: "idle_share", label: "CPU", unit: "% of a core", scale: 100, headline: true}
	boot := metric{key: "boot_s", label: "from exec to fully booted", unit: "s", headline: true}
	return []row{
		{
			name: "idle, 1 connection", about: "one connection to the broker, after its first message", variants: []variant{ours, reference},
			measure: measureIdle(1, false), metrics: []metric{resident.must(differenceAtMost, 15), threads},
		},
		{
			name: "idle, 10 connections", about: "ten connections to the broker, each after its first message", variants: []variant{ours, reference, bare},
			measure: measureIdle(idleConnections, true),
			metrics: []metric{idleCPU.versus(bare).must(differenceAtMost, 0.1), idleCPU, resident, threads, wakeUps},
		},
		{
			name: "1,000,000 waiting", about: "a million messages without a reachable broker", variants: []variant{ours, reference},
			measure: measureWaiting,
			metrics: []metric{{key: "peak_kb", label: "peak of resident memory", unit: "MB", scale: 1.0 / 1024, headline: true, goal: goal{ratioAtMost, 1}}},
		},
		{
			name: "start, 50 connections, no broker", about: "a module gets the producers of 50 connections during its load, without a reachable broker",
			variants: []variant{ours, bare, reference}, rounds: 9, measure: measureStart,
			metrics: []metric{boot.versus(bare).must(ratioAtMost, 1.05), boot},
		},
		{
			name: "garbage collection", about: "flat out from one thread with GODEBUG=gctrace=1", variants: []variant{ours}, measure: measureCollector,
			metrics: []metric{
				{key: "pause_ms", label: "longest pause", unit: "ms", headline: true}, {key: "cycles", label: "cycles for a million messages", headline: true},
				threads,
			},
		},
	}
}

// versus compares the metric with another variant than the reference.
func (m metric) versus(v variant) metric {
	m.against = v
	return m
}

// measureIdle lets connections to a broker be; watch is for how long, to count the processor's time.
func measureIdle(connections int, watch bool) func(context.Context, *round) error {
	return func(ctx context.Context, r *round) error {
		address, err := r.bench.swallow.up(ctx)
		if err != nil {
			return err
		}
		if err := r.start(ctx, launch{brokers: address, numbered: connections}); err != nil {
			return err
		}
		if r.variant != bare {
			topic := r.topic("idle")
			if err := r.bench.swallow.create(ctx, []string{topic}); err != nil {
				return err
			}
			if _, err := r.command("open %s %d %s", connection, connections, topic); err != nil {
				return err
			}
			if _, err := r.bench.swallow.await(ctx, []string{topic}, func() int64 { return int64(connections) }); err != nil {
				return err
			}
		}
		if err := sleep(ctx, settling); err != nil {
			return err
		}
		if watch {
			if err := r.watch(ctx); err != nil {
				return err
			}
		}
		if r.variant == bare {
			return nil
		}
		found, err := r.usage()
		for _, name := range []string{"resident_kb", "threads"} {
			r.values[name] = found[name]
		}
		return err
	}
}

// watch measures Asterisk and its engine at rest, from outside: a command would be most of the cost.
func (r *round) watch(ctx context.Context) error {
	before, err := r.usedByBoth()
	if err != nil {
		return err
	}
	began := time.Now()
	if err := sleep(ctx, time.Duration(float64(idling)*max(r.bench.share, 0.2))); err != nil {
		return err
	}
	after, err := r.usedByBoth()
	wall := time.Since(began).Seconds()
	r.values["idle_share"] = (after.cpu - before.cpu).Seconds() / wall
	r.values["voluntary_per_second"] = float64(after.voluntary-before.voluntary) / wall
	return err
}

func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-time.After(d):
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// nowhere returns an address without a broker: a port free a moment ago.
func nowhere() (string, error) {
	port, err := pbx.FreePort()
	return fmt.Sprintf("127.0.0.1:%d", port), err
}

// measureWaiting produces many messages without a broker.
func measureWaiting(ctx context.Context, r *round) error {
	address, err := nowhere()
	if err != nil {
		return err
	}
	if err := r.start(ctx, launch{brokers: address}); err != nil {
		return err
	}
	// Not flat out: refused messages do not wait.
	l := load{bytes: 300, count: waiting, perSecond: waiting / 4, threads: 1, topics: 1, connections: 1}.scaled(r.bench.share)
	found, err := l.produce(r, r.topic("waiting"))
	if err != nil {
		return err
	}
	// The code behind the call takes the messages and stores them.
	if err := sleep(ctx, settling); err != nil {
		return err
	}
	used, err := r.usage()
	for _, name := range []string{"resident_kb", "peak_kb", "threads"} {
		found[name] = used[name]
	}
	r.values = found
	return err
}

// measureStart times the start of Asterisk.
func measureStart(ctx context.Context, r *round) error {
	address, err := nowhere()
	if err != nil {
		return err
	}
	err = r.start(ctx, launch{
		brokers: address, numbered: startConnections, env: []string{fmt.Sprintf("KAFKA_BENCH_OPEN=%s %d", connection, startConnections)},
	})
	r.values["boot_s"] = r.booted.Seconds()
	return err
}

// measureCollector makes the Go runtime log each of its collections.
func measureCollector(ctx context.Context, r *round) error {
	address, err := r.bench.swallow.up(ctx)
	if err != nil {
		return err
	}
	if err := r.start(ctx, launch{brokers: address, env: []string{"GODEBUG=gctrace=1"}}); err != nil {
		return err
	}
	l := load{broker: swallow, bytes: 300, count: flatOut, threads: 1}
	found, err := l.run(ctx, r, r.topic("gc"))
	if err != nil {
		return err
	}
	trace, err := r.trace(ctx)
	if err != nil {
		return err
	}
	found["pause_ms"], found["cycles"] = pauses(trace) // collections of the start are a few of hundreds
	found["cycles"] /= found["calls"] / 1e6
	r.values = found
	return nil
}
