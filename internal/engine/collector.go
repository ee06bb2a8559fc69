package engine

import (
	"runtime/debug"
	"sync"
)

// The collector's policy. Without one (GOGC=100) a heap of 3 MB is collected every 3 MB, which is two hundred times a second
// at a million messages a second, and one of 400 MB, when a million messages wait for a broker, grows to 800 MB.
//
// What is collected next is (ballast + live) * (1 + percent/100), so there are
//
//	ballast * percent/100 = 16 MB more than twenty-five percent
//
// of room above what is live. The ballast is never touched, so it costs addresses and no memory, and the
// collector has nothing to look for in it. A small percentage is cheap because what makes a heap large here, records that
// wait, has no pointers in it (see outbox's pack): a cycle takes as long with a million of them as with none.
const (
	collectorBallast = 64 << 20
	collectorPercent = 25
)

var ballast []byte

// tuneCollector puts the policy in force, for the process.
var tuneCollector = sync.OnceFunc(func() {
	ballast = make([]byte, collectorBallast)
	debug.SetGCPercent(collectorPercent)
})
