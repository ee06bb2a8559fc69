package main

import (
	"slices"
	"strconv"
)

// Which broker a load is put on.
func swallow(b *bench) *broker { return b.swallow }
func kafka(b *bench) *broker   { return b.apache }

// How much is produced in a round.
const (
	flatOut    = 1_000_000
	codecCount = 500_000 // gzip does not manage more in a few seconds
	steadyLow  = 1_800   // 6 s at 300/s
	steadyHigh = 8_000   // 4 s at 2,000/s
)

// onDisk returns metrics for durability = disk, missing in the reference, which stores nothing.
func onDisk(metrics ...metric) []metric {
	var all []metric
	for _, m := range metrics {
		m.of = disk
		m.label += ", durability = disk"
		all = append(all, m)
	}
	return all
}

// rows is every row, in the order of the table.
func rows() []row {
	with, plain := []variant{ours, disk, reference}, []variant{ours, reference}
	all := []row{
		{
			name: "300/s", about: "300 calls a second from one thread", variants: with,
			measure: load{broker: swallow, bytes: 300, perSecond: 300, count: steadyLow, threads: 1}.measure,
			metrics: slices.Concat(
				[]metric{callP50.must(ratioAtMost, 0.25), callP99.must(ratioAtMost, 0.2), steadyCPU.must(ratioAtMost, 1), wakeUps},
				onDisk(callP50.must(ratioAtMost, 0.4), callP99.must(ratioAtMost, 0.4), steadyCPU)),
		},
		{
			name: "2,000/s", about: "2,000 calls a second from one thread", variants: with,
			measure: load{broker: swallow, bytes: 300, perSecond: 2000, count: steadyHigh, threads: 1}.measure,
			metrics: slices.Concat(
				[]metric{callP50.must(ratioAtMost, 0.4), callP99.must(ratioAtMost, 0.15), steadyCPU.must(ratioAtMost, 1), wakeUps},
				onDisk(callP50.must(ratioAtMost, 0.4), callP99.must(ratioAtMost, 0.4), steadyCPU)),
		},
		{
			name: "flat out, 1 thread", about: "the maximum of calls from one thread", variants: with,
			measure: load{broker: swallow, bytes: 300, count: flatOut, threads: 1}.measure,
			metrics: slices.Concat(
				[]metric{
					callP50.must(ratioAtMost, 0.3), callP99.must(ratioAtMost, 0.25), callP999, callWorst.must(absoluteAtMost, 1), callLongest,
					throughput.must(ratioAtLeast, 1.2), millionCPU.must(ratioAtMost, 0.8),
				},
				onDisk(callP50.must(ratioAtMost, 0.4), callP99.must(ratioAtMost, 0.4), callWorst, throughput, millionCPU)),
		},
		{
			name: "flat out, 4 threads", about: "the maximum of calls from four threads", variants: with,
			measure: load{broker: swallow, bytes: 300, count: flatOut, threads: 4}.measure,
			metrics: slices.Concat(
				[]metric{
					callP50.must(ratioAtMost, 0.25), callP99.must(ratioAtMost, 0.4), callP999, callWorst.must(absoluteAtMost, 2), callLongest,
					throughput, millionCPU,
				},
				onDisk(callP50.must(ratioAtMost, 0.4), callP99.must(ratioAtMost, 0.4), callWorst, throughput, millionCPU)),
		},
		{
			name: "Apache Kafka, acks = -1", about: "flat out from one thread, to Apache Kafka", variants: plain,
			measure: load{broker: kafka, bytes: 300, count: flatOut / 2, threads: 1}.measure,
			metrics: []metric{throughput.must(ratioAtLeast, 1.2), millionCPU},
		},
	}
	all = append(all, payloadRows(plain)...)
	all = append(all, wanRows()...)
	all = append(all, spoolRows()...)
	all = append(all, consumerRows()...)
	all = append(all, standingRows()...)
	all = append(all, callRows()...)
	return append(all, growthRows()...)
}

// payloadRows are about sizes and compression.
func payloadRows(variants []variant) []row {
	metrics := []metric{throughput.must(ratioAtLeast, 1), millionCPU.must(ratioAtMost, 1), callP50, callP99}
	var all []row
	for _, size := range []struct{ bytes, count int }{{50, flatOut}, {10_000, flatOut / 20}} {
		all = append(all, row{
			name: thousands(size.bytes) + " bytes", about: "flat out from one thread, payloads of this size", variants: variants,
			measure: load{broker: swallow, bytes: size.bytes, count: size.count, threads: 1}.measure, metrics: metrics,
		})
	}
	for _, codec := range []string{"lz4", "zstd", "snappy", "gzip"} {
		all = append(all, row{
			name: codec, about: "flat out from one thread, compression_codec = " + codec, variants: variants,
			measure: load{broker: swallow, bytes: 300, count: codecCount, threads: 1, settings: settings{"compression_codec": codec}}.measure,
			metrics: metrics,
		})
	}
	return all
}

// Counts in growthRows.
const (
	growthCount = 200_000
	growthBytes = 200_000_000 // limit, which reduces the number of large messages
)

// growthRows measure the growth of a message's cost with the numbers of things; the plot has their data.
func growthRows() []row {
	ones := load{broker: swallow, bytes: 300, count: growthCount, threads: 1}
	all := []series{
		{"topics", []int{1, 10, 100, 1000}, false, func(n int) load { l := ones; l.topics = n; return l }},
		{"connections", []int{1, 4, 16, 64}, false, func(n int) load { l := ones; l.connections = n; return l }},
		{"threads", []int{1, 4, 16, 64}, false, func(n int) load { l := ones; l.threads = n; return l }},
		{"bytes", []int{100, 1000, 10_000, 100_000, 900_000}, true, func(n int) load {
			l := ones
			l.bytes, l.count = n, min(growthCount, growthBytes/n)
			return l
		}},
	}
	var found []row
	for _, s := range all {
		found = append(found, s.row())
	}
	return found
}

// thousands renders a number with commas.
func thousands(n int) string {
	text := strconv.Itoa(n)
	for i := len(text) - 3; i > 0; i -= 3 {
		text = text[:i] + "," + text[i:]
	}
	return text
}
