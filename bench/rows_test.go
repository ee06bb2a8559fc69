package main

import "testing"

// TestEveryGoalHasARow checks that every agreed measurement exists: a rename of a row, or a removed goal,
// needs the same change here.
func TestEveryGoalHasARow(t *testing.T) {
	atMost := func(limit float64) goal { return goal{ratioAtMost, limit} }
	atLeast := func(limit float64) goal { return goal{ratioAtLeast, limit} }
	absolute := func(limit float64) goal { return goal{absoluteAtMost, limit} }
	for _, want := range []struct {
		row, key string
		of       variant
		goal     goal
	}{
		{"300/s", "p50_ns", ours, atMost(0.25)},
		{"300/s", "p99_ns", ours, atMost(0.2)},
		{"300/s", "cpu_share", ours, atMost(1)},
		{"300/s", "p50_ns", disk, atMost(0.4)},
		{"300/s", "p99_ns", disk, atMost(0.4)},
		{"2,000/s", "p50_ns", ours, atMost(0.4)},
		{"2,000/s", "p99_ns", ours, atMost(0.15)},
		{"2,000/s", "cpu_share", ours, atMost(1)},
		{"2,000/s", "p50_ns", disk, atMost(0.4)},
		{"2,000/s", "p99_ns", disk, atMost(0.4)},
		{"flat out, 1 thread", "p50_ns", ours, atMost(0.3)},
		{"flat out, 1 thread", "p99_ns", ours, atMost(0.25)},
		{"flat out, 1 thread", "own_max_ns", ours, absolute(1)},
		{"flat out, 1 thread", "per_second", ours, atLeast(1.2)},
		{"flat out, 1 thread", "cpu_us_each", ours, atMost(0.8)},
		{"flat out, 1 thread", "p50_ns", disk, atMost(0.4)},
		{"flat out, 1 thread", "p99_ns", disk, atMost(0.4)},
		{"flat out, 4 threads", "p50_ns", ours, atMost(0.25)},
		{"flat out, 4 threads", "p99_ns", ours, atMost(0.4)},
		{"flat out, 4 threads", "own_max_ns", ours, absolute(2)},
		{"flat out, 4 threads", "p50_ns", disk, atMost(0.4)},
		{"flat out, 4 threads", "p99_ns", disk, atMost(0.4)},
		{"Apache Kafka, acks = -1", "per_second", ours, atLeast(1.2)},
		{"50 bytes", "per_second", ours, atLeast(1)},
		{"50 bytes", "cpu_us_each", ours, atMost(1)},
		{"10,000 bytes", "per_second", ours, atLeast(1)},
		{"10,000 bytes", "cpu_us_each", ours, atMost(1)},
		{"lz4", "per_second", ours, atLeast(1)},
		{"lz4", "cpu_us_each", ours, atMost(1)},
		{"zstd", "per_second", ours, atLeast(1)},
		{"zstd", "cpu_us_each", ours, atMost(1)},
		{"snappy", "per_second", ours, atLeast(1)},
		{"snappy", "cpu_us_each", ours, atMost(1)},
		{"gzip", "per_second", ours, atLeast(1)},
		{"gzip", "cpu_us_each", ours, atMost(1)},
		{"consumer, 300/s", "p50_ns", ours, absolute(2)},
		{"consumer, 300/s", "p99_ns", ours, absolute(10)},
		{"consumer, 1,000,000 messages", "callbacks_per_second", ours, atLeast(1.5)},
		{"idle, 1 connection", "resident_kb", ours, goal{differenceAtMost, 15}},
		{"1,000,000 waiting", "peak_kb", ours, atMost(1)},
		{"idle, 10 connections", "idle_share", ours, goal{differenceAtMost, 0.1}},
		{"start, 50 connections, no broker", "boot_s", ours, atMost(1.05)},
		{"garbage collection", "pause_ms", ours, goal{}},
		{"garbage collection", "threads", ours, goal{}},
		{"calls", "audio_ratio", disk, absolute(callTolerance)},
		{"calls", "call_ratio", disk, absolute(callTolerance)},
		{"WAN 50 ms, 1 partition", "per_second", ours, atLeast(1)},
		{"WAN 50 ms, 1 partition, idempotent", "per_second", ours, atLeast(1)},
		{"WAN 50 ms, 8 partitions", "per_second", ours, atLeast(1)},
		{"WAN 50 ms, 8 partitions, idempotent", "per_second", ours, atLeast(1)},
		{"WAN 50 ms, 300/s", "p50_ns", ours, atMost(1.1)},
		{"WAN 50 ms, 300/s", "p99_ns", ours, atMost(1.1)},
		{"WAN 100 ms, 1 partition", "per_second", ours, atLeast(1)},
		{"WAN 100 ms, 1 partition, idempotent", "per_second", ours, atLeast(1)},
		{"WAN 100 ms, 8 partitions", "per_second", ours, atLeast(1)},
		{"WAN 100 ms, 8 partitions, idempotent", "per_second", ours, atLeast(1)},
		{"WAN 100 ms, 300/s", "p50_ns", ours, atMost(1.1)},
		{"WAN 100 ms, 300/s", "p99_ns", ours, atMost(1.1)},
		{"spool, 1,000,000 messages", "per_second", disk, goal{}},
		{"spool, 1,000,000 messages", "cpu_us_each", disk, goal{}},
		{"growth, topics", "cpu_us_each growth", ours, absolute(1.5)},
		{"growth, connections", "cpu_us_each growth", ours, absolute(1.5)},
		{"growth, threads", "cpu_us_each growth", ours, absolute(1.5)},
		{"growth, bytes", "cpu_us_each growth", ours, absolute(1.5)},
	} {
		if !shows(rows(), want.row, want.key, want.of, want.goal) {
			t.Errorf("no row %q shows %s of %s with the goal %q", want.row, want.key, want.of, want.goal)
		}
	}
}

func shows(all []row, name, key string, of variant, g goal) bool {
	for _, r := range all {
		for _, m := range r.metrics {
			if r.name == name && m.key == key && m.owner() == of && m.goal == g {
				return true
			}
		}
	}
	return false
}

// TestRows checks that every row can be selected and distinguished, and measures all its metrics.
func TestRows(t *testing.T) {
	seen := map[string]bool{}
	for _, r := range rows() {
		if seen[r.name] {
			t.Errorf("there are two rows %q", r.name)
		}
		seen[r.name] = true
		if r.measure == nil || r.about == "" || len(r.metrics) == 0 || len(r.variants) == 0 {
			t.Errorf("row %q lacks something", r.name)
		}
		measured := map[variant]bool{}
		for _, v := range r.variants {
			measured[v] = true
		}
		for _, m := range r.metrics {
			if !measured[m.owner()] {
				t.Errorf("row %q shows %q of %s, which it does not measure", r.name, m.label, m.owner())
			}
			relative := m.goal.how == ratioAtMost || m.goal.how == ratioAtLeast || m.goal.how == differenceAtMost
			if relative && !measured[m.opponent()] {
				t.Errorf("row %q compares %q with %s, which it does not measure", r.name, m.label, m.opponent())
			}
		}
	}
}
