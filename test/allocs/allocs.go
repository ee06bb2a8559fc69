// Package allocs counts what one part of a program allocates, whatever the rest of the process does meanwhile.
//
// The counters of runtime.MemStats and testing.AllocsPerRun are the whole process's: a client that calls an address again and
// again beside what is measured is in them, and the slower the machine is the more of it. The memory profile knows who
// allocated.
package allocs

import (
	"runtime"
	"strings"
)

// By runs do and says how many objects were allocated meanwhile, and how many bytes of memory these take, by functions
// whose full name begins with one of the prefixes, and by what they called, on any goroutine. A full name is for example
// "reskafka/internal/outbox.(*Outbox).Accept". Nothing is estimated: every allocation is counted, only those that share a
// block of 16 bytes, which they do not with the race detector, as one. Not to be called from more than one goroutine at a time.
func By(do func(), prefixes ...string) (objects, bytes int64) {
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	runtime.MemProfileRate = 1
	objectsBefore, bytesBefore := total(prefixes)
	do()
	objects, bytes = total(prefixes)
	return objects - objectsBefore, bytes - bytesBefore
}

// total is what the profile has of such functions.
func total(prefixes []string) (objects, bytes int64) {
	// What was allocated is in the profile after the second collection at the latest.
	runtime.GC()
	runtime.GC()
	var records []runtime.MemProfileRecord
	for n, ok := runtime.MemProfile(nil, true); !ok; {
		records = make([]runtime.MemProfileRecord, n+100) // there may be more by then
		if n, ok = runtime.MemProfile(records, true); ok {
			records = records[:n]
		}
	}
	for i := range records {
		if within(records[i].Stack(), prefixes) {
			objects += records[i].AllocObjects
			bytes += records[i].AllocBytes
		}
	}
	return objects, bytes
}

// within says whether one of the functions of a stack is meant.
func within(stack []uintptr, prefixes []string) bool {
	frames := runtime.CallersFrames(stack)
	for {
		frame, more := frames.Next()
		for _, p := range prefixes {
			if strings.HasPrefix(frame.Function, p) {
				return true
			}
		}
		if !more {
			return false
		}
	}
}
