package main

import (
	"fmt"
	"strings"
)

// goalOf is a goal: of a row by its name, and of a metric of it by its label.
type goalOf struct{ row, what string }

// Reasons that several goals share.
const (
	freshMemory = "A million calls come in a quarter of a second and wait, which is memory that the processes see for the first time, a page " +
		"at a time, though only once. librdkafka's copy is such memory too; a busy PBX has none of it: it is used again"
	twoProcessors = "Caller, pump, feeder, requests and the broker share two processors: the rate is what their work adds up to. " +
		"Of ours, copying into batches and requests, and the kernel's share of sockets and pages are the largest"
	goCodec = "What remains is the encoder, which is Go where librdkafka has C; without compression the same messages cost four fifths"
	wakeUp  = "Each batch wakes the pump's thread, then the ring's, feeder's and connection's goroutines, and the answer the latter again: some " +
		"100 µs of the scheduler, the poller and the kernel"
	fromRunToRun = "Not told apart from the control, twice without the module, which goes from 0.94 to 1.05 from one run to the next, as this does from 0.96 to 1.10"
	steps        = "The clock is read twice in each call, which is half of the time, in steps of 10 ns"
)

// obstacles are what stands in the way of goals that have been missed, as profiles show it. For whoever goes on there; a goal that is
// met needs none.
var obstacles = map[goalOf]string{
	{"300/s", steadyCPU.label}:   wakeUp,
	{"2,000/s", steadyCPU.label}: wakeUp,

	{"flat out, 1 thread", callP50.label}:    steps,
	{"flat out, 1 thread", throughput.label}: twoProcessors,
	{"flat out, 1 thread", millionCPU.label}: freshMemory,
	{"flat out, 1 thread", callWorst.label}:  "A caller that finds no spare slab fetches its pages itself",

	{"flat out, 4 threads", callP50.label}: steps + ", and the other half is the exchange of one word by four threads",
	{"flat out, 4 threads", callWorst.label}: "A caller that finds no spare slab fetches its pages itself, and waits for the others that do. Time in the kernel " +
		"while another thread has the processor is told apart from it only roughly",

	{"flat out, 4 threads", callP50.label + ", durability = disk"}: "It goes from 0.25 to 0.45 from one run to the next on the same machine: four callers, the pump and the engine share two processors",

	{"Apache Kafka, acks = -1", throughput.label}: twoProcessors + "; the broker's share is the larger here, and a partition has one batch on its way",

	{"10,000 bytes", throughput.label}: freshMemory + ". And each payload is copied three times, into the slab, the batch and the request, where " +
		"librdkafka copies once and gives the kernel pieces",
	{"10,000 bytes", millionCPU.label}: freshMemory + ". And each payload is copied three times, into the slab, the batch and the request, where " +
		"librdkafka copies once and gives the kernel pieces",

	{"lz4", throughput.label}:    goCodec,
	{"lz4", millionCPU.label}:    goCodec,
	{"zstd", throughput.label}:   goCodec,
	{"zstd", millionCPU.label}:   goCodec,
	{"snappy", throughput.label}: twoProcessors,
	{"snappy", millionCPU.label}: goCodec,

	{"calls", "time for a call flat out / without the module"}: "With a CDR backend that does nothing it is up to 1.09: most is Asterisk making the record. Ours is some 8 % of the " +
		"processor time, of which spooling the record to disk, the default for call records, is as much as encoding it",

	{"calls", "time to the first audio / without the module, broker frozen"}:  fromRunToRun,
	{"calls", "time for a call flat out / without the module, broker frozen"}: fromRunToRun,

	{"growth, topics", "CPU for a message, growth beyond linear"}:      "With 1,000 topics each has batches of its own with few records, so that what a batch costs is paid for by few",
	{"growth, connections", "CPU for a message, growth beyond linear"}: "With 64 connections each has a feeder, a client and requests of its own, which are smaller",
	{"growth, connections", "call, median, growth beyond linear"}:      steps,
	{"growth, threads", "call, median, growth beyond linear"}:          steps,
	{"growth, bytes", "call, median, growth beyond linear"}:            "A message larger than a slab has one of its own, of memory that is fetched and given back each time",
}

// inTheWay is the list of goals that were missed, by how much, and what stands in the way.
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
