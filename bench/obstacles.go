package main

import (
	"fmt"
	"strings"
)

// goalOf identifies a goal by the name of its row and the label of its metric.
type goalOf struct{ row, what string }

// Reasons of several goals.
const (
	freshMemory = "A million calls arrive in a quarter of a second and wait in fresh memory, allocated page by page. " +
		"librdkafka's copy takes fresh memory too; a busy PBX reuses its memory"
	threeCopies = ". Each payload is copied three times, into the slab, the batch and the request; librdkafka copies once and passes " +
		"pieces to the kernel"
	twoProcessors = "Caller, pump, feeder, requests and the broker share two processors; the sum of their work limits the rate. " +
		"Our largest parts are copies into batches and requests, and the kernel's work for sockets and pages"
	goCodec = "The rest is the encoder, in Go here and in C in librdkafka; without compression the same messages cost four fifths"
	wakeUp  = "Each batch wakes the pump's thread and the goroutines of ring, feeder and connection; the answer wakes the connection " +
		"again. The wake-ups take some 100 µs of scheduler, poller and kernel"
	fromRunToRun = "Within the noise: the control, twice without the module, varies from 0.94 to 1.05 between runs, and this row from 0.96 to 1.10"
	steps        = "Two reads of the clock, in steps of 10 ns, are half of the time"
	slowStart    = "Some three round trips pass before batches follow each other: a record alone, the producer id, the first numbered batch alone"
	noFreeSlab   = "Without a free slab, a caller allocates pages itself"
)

// obstacles has the cause of each missed goal, as found by profiles. A goal that is met needs no entry.
var obstacles = map[goalOf]string{
	{"300/s", steadyCPU.label}:   wakeUp,
	{"2,000/s", steadyCPU.label}: wakeUp,

	{"flat out, 1 thread", callP50.label}:    steps,
	{"flat out, 1 thread", throughput.label}: twoProcessors,
	{"flat out, 1 thread", millionCPU.label}: freshMemory,
	{"flat out, 1 thread", callWorst.label}:  noFreeSlab,

	{"flat out, 4 threads", callP50.label}: steps + ". The other half is the exchange of one word by four threads",
	{"flat out, 4 threads", callWorst.label}: noFreeSlab + ", and waits for other callers in the same allocation. The measurement separates " +
		"waits for a processor only roughly",

	{"flat out, 4 threads", callP50.label + ", durability = disk"}: "The ratio varies from 0.25 to 0.45 between runs on the same machine: four callers, the pump and the engine share two processors",

	{"Apache Kafka, acks = -1", throughput.label}: twoProcessors + ". The broker's share is the larger here, and a partition has one batch in flight",

	{"10,000 bytes", throughput.label}: freshMemory + threeCopies,
	{"10,000 bytes", millionCPU.label}: freshMemory + threeCopies,

	{"lz4", throughput.label}:    goCodec,
	{"lz4", millionCPU.label}:    goCodec,
	{"zstd", throughput.label}:   goCodec,
	{"zstd", millionCPU.label}:   goCodec,
	{"snappy", throughput.label}: twoProcessors,
	{"snappy", millionCPU.label}: goCodec,

	{"WAN 50 ms, 1 partition", throughput.label}:    slowStart,
	{"WAN 50 ms, 8 partitions", throughput.label}:   slowStart,
	{"WAN 50 ms, 300/s", "to the consumer, median"}: "A small request leaves 5 ms after the one before, beside linger_ms",
	{"WAN 100 ms, 1 partition", throughput.label}:   slowStart,
	{"WAN 100 ms, 8 partitions", throughput.label}:  slowStart,

	{"calls", "time for a call flat out / without the module"}: "With an empty CDR backend the factor is up to 1.09: Asterisk's construction of the record is most of the cost. " +
		"Our part is some 8 % of the processor time, one half for the encoder, the other half for the spool, the default for call records",

	{"calls", "time to the first audio / without the module, broker frozen"}:  fromRunToRun,
	{"calls", "time for a call flat out / without the module, broker frozen"}: fromRunToRun,

	{"growth, topics", "CPU for a message, growth beyond linear"}:      "Each of 1,000 topics has its own batches with few records, so few records share the cost of a batch",
	{"growth, connections", "CPU for a message, growth beyond linear"}: "Each of 64 connections has its own feeder, client and smaller requests",
	{"growth, connections", "call, median, growth beyond linear"}:      steps,
	{"growth, threads", "call, median, growth beyond linear"}:          steps,
	{"growth, bytes", "call, median, growth beyond linear"}:            "A message larger than a slab has its own slab, allocated and released each time",
}

// inTheWay lists the missed goals, with the measured value and the cause.
func inTheWay(lines []line) string {
	var text strings.Builder
	for _, l := range lines {
		if l.verdict != missed {
			continue
		}
		value := l.measured
		if strings.HasPrefix(l.goal, "ratio") {
			value = "ratio " + l.ratio
		}
		why, known := obstacles[goalOf{l.row, l.what}]
		if !known {
			why = "Not looked into"
		}
		fmt.Fprintf(&text, "- %s, %s: %s where the goal is %s. %s.\n", l.row, l.what, value, l.goal, why)
	}
	return text.String()
}
