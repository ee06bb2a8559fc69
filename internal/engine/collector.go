package engine

import (
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// The collector's policy. Without one (GOGC=100) a heap of 3 MB is collected every 3 MB, which is two hundred times a second
// at a million messages a second, and one of 350 MB, when a million messages wait for a broker, grows to 700 MB.
//
// The heap is collected when it has grown to (ballast + live) * (1 + percent/100), so there are
//
//	ballast * percent/100 = 25 MB and 20 percent
//
// of room above what is live. The ballast is never touched, so it costs addresses and no memory, and the collector has nothing
// to look for in it. A small percentage is cheap because what makes a heap large here, records that wait, has no pointers in it
// (see outbox's pack): a cycle takes as long with a million of them as with none. Measured with GODEBUG=gctrace=1 and
// BenchmarkWait on 2 processors: the last cycle while a million records were coming in took 340 ms of processor time before, and
// takes 5 ms.
//
// To change it in steps of its own (SetGCPercent after each cycle) would stop all goroutines every time.
const (
	collectorBallast = 128 << 20
	collectorPercent = 20
)

// tuneAfter is how long after the start: to set it collects, and while Asterisk starts there are others to use the processors.
const tuneAfter = 200 * time.Millisecond

var (
	ballast []byte
	tuned   = make(chan struct{}) // closed once the policy is in force
)

// tuneCollector puts the policy in force, for the process.
var tuneCollector = sync.OnceFunc(func() {
	ballast = make([]byte, collectorBallast)
	_ = syscall.Madvise(ballast, syscall.MADV_DONTNEED) // should it stand where something else was: it is zeros then too
	debug.SetGCPercent(collectorPercent)
	close(tuned)
})
