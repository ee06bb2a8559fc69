// Package allocs counts the allocations of a part of a program, regardless of the rest of the process.
//
// The counters of runtime.MemStats and testing.AllocsPerRun cover the whole process: a client in a retry loop
// beside the measurement adds allocations, more on a slower machine. The memory profile has the allocating
// functions.
package allocs

import (
	"runtime"
	"strings"
)

// By runs do and returns the number and the bytes in memory of objects allocated meanwhile by functions with
// one of the prefixes in their full name, and by their callees, on any goroutine. A full name is for example
// "reskafka/internal/outbox.(*Outbox).Accept". The result is exact, except that allocations in a shared block
// of 16 bytes count as one; with the race detector there are no shared blocks. Not safe for concurrent use.
func By(do func(), prefixes ...string) (objects, bytes int64) {
	made, _ := during(do, prefixes)
	return made.objects, made.bytes
}

// KeptBy is By for objects still in memory after do. Objects of an earlier do, freed only during this do,
// count against it.
func KeptBy(do func(), prefixes ...string) (objects, bytes int64) {
	made, freed := during(do, prefixes)
	return made.objects - freed.objects, made.bytes - freed.bytes
}

// sum is a number of objects and their size.
type sum struct{ objects, bytes int64 }

func during(do func(), prefixes []string) (made, freed sum) {
	defer func(rate int) { runtime.MemProfileRate = rate }(runtime.MemProfileRate)
	runtime.MemProfileRate = 1
	madeBefore, freedBefore := total(prefixes)
	do()
	made, freed = total(prefixes)
	return made.less(madeBefore), freed.less(freedBefore)
}

func (s sum) less(o sum) sum { return sum{s.objects - o.objects, s.bytes - o.bytes} }

// total returns the profile's sums for such functions.
func total(prefixes []string) (made, freed sum) {
	// Allocated and unreachable objects are in the profile after the second collection at the latest.
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
		if r := &records[i]; within(r.Stack(), prefixes) {
			made.objects += r.AllocObjects
			made.bytes += r.AllocBytes
			freed.objects += r.FreeObjects
			freed.bytes += r.FreeBytes
		}
	}
	return made, freed
}

// within reports whether a stack has a function with one of the prefixes.
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
