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
	made, _ := during(do, prefixes)
	return made.objects, made.bytes
}

// KeptBy is By for what is still in memory when do has returned. What an earlier do had allocated and is given back only
// during this one counts against it.
func KeptBy(do func(), prefixes ...string) (objects, bytes int64) {
	made, freed := during(do, prefixes)
	return made.objects - freed.objects, made.bytes - freed.bytes
}

// sum is some objects and their size.
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

// total is what the profile has of such functions.
func total(prefixes []string) (made, freed sum) {
	// What was allocated, and what is not reachable any more, is in the profile after the second collection at the latest.
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
