package engine

import (
	"runtime/debug"
	"sync"
	"syscall"
	"time"
)

// The garbage collector's policy. Without a policy (GOGC=100), a heap of 3 MB is collected every 3 MB: two
// hundred times a second at a million messages a second. A heap of 350 MB, with a million messages waiting
// for a broker, grows to 700 MB.
//
// The heap is collected at (ballast + live) * (1 + percent/100). Above the live heap there are
//
//	ballast * percent/100 = 25 MB and 20 percent
//
// The ballast is never touched: it costs addresses, no memory, and no work of the collector. A small
// percentage is cheap because a large heap here has waiting records, which have no pointers (see outbox's
// pack): a cycle takes as long with a million records as without. Measured with GODEBUG=gctrace=1 and
// BenchmarkWait on 2 processors: the last cycle during a million records took 340 ms of processor time
// before, and takes 5 ms.
//
// Our own steps (SetGCPercent after each cycle) would stop all goroutines every time.
const (
	collectorBallast = 128 << 20
	collectorPercent = 20
)

// tuneAfter is the delay after the start: the setting runs a collection, and Asterisk's start needs the
// processors.
const tuneAfter = 200 * time.Millisecond

var (
	ballast []byte
	tuned   = make(chan struct{}) // closed once the policy is in force
)

// tuneCollector puts the policy in force, for the process.
var tuneCollector = sync.OnceFunc(func() {
	ballast = make([]byte, collectorBallast)
	_ = syscall.Madvise(ballast, syscall.MADV_DONTNEED) // in case of reused memory: zeros then, too
	debug.SetGCPercent(collectorPercent)
	close(tuned)
})
