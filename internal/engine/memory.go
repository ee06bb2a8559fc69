package engine

import (
	"fmt"
	"maps"
	"runtime/debug"
	"slices"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/outbox"
)

// Shares of the common memory of Asterisk and the engine. The rest is for Asterisk. Above the whole, the
// kernel would kill one of the two.
const (
	queueShare  = 4 // a quarter for the queues of all connections,
	sharedShare = 4 // a quarter for slabs, which are the queue while there is no engine,
	heapShare   = 2 // and half for Go's heap, the queues included

	recordBytes = 512     // of a queue's share for each record: more than a small record takes
	heapFrom    = 4 << 30 // with more memory than this the heap needs no limit
)

// limitHeap makes Go's collector work harder before the heap exceeds the engine's share.
func (e *Engine) limitHeap() {
	if m := e.system.MemoryBytes; m > 0 && m < heapFrom {
		debug.SetMemoryLimit(collectorBallast + m/heapShare)
	}
}

// SharedMost returns how many bytes of slabs the stages of all connections may have at most; 0 = not known.
func (e *Engine) SharedMost() int64 { return e.system.MemoryBytes / sharedShare }

// queueLimits returns the limits of a connection's queue in memory: the options' limits, or a part of the
// common share. A queue with a disk gets half: while records go to disk, the stage admits the other half.
func (c *connection) queueLimits(settings *config.Connection) (records int, bytes int64) {
	records, bytes = settings.QueueMaxMessages, int64(settings.QueueMaxKbytes)<<10
	share := c.engine.queueBytes()
	if share == 0 {
		return records, bytes
	}
	if c.keepsOnDisk(settings) {
		share /= 2
	}
	return min(records, max(1, int(share/recordBytes))), min(bytes, share)
}

// queueBytes returns the share of a producing connection; 0 = no limit.
func (e *Engine) queueBytes() int64 {
	return e.system.MemoryBytes / queueShare / max(1, e.producing.Load())
}

// shareAnew recomputes each connection's share after the addition of a connection.
func (e *Engine) shareAnew() {
	if e.system.MemoryBytes == 0 {
		return
	}
	for _, c := range *e.connections.Load() {
		box, settings := c.box(), c.settings.Load()
		if box == nil || settings == nil {
			continue
		}
		box.Adjust(func(s *outbox.Settings) { c.spoolSettings(settings, s) }, spoolLimits(settings))
		c.setGate()
	}
}

// logMemory logs options above the available memory. Caller must hold the engine's configuring.
func (e *Engine) logMemory(wanted map[string]*config.Connection) {
	m, asked := e.system.MemoryBytes, int64(0)
	largest := ""
	for _, name := range slices.Sorted(maps.Keys(wanted)) {
		if bytes := int64(wanted[name].QueueMaxKbytes) << 10; bytes > asked {
			asked, largest = bytes, wanted[name].Name
		}
	}
	if m == 0 || asked <= m/queueShare {
		return
	}
	e.logOnce(host.Notice, "queues in memory are limited to %s in all: connection '%s' asks for %s with queue_buffering_max_kbytes = %d, and %s allows %s for Asterisk and the engine",
		megabytes(m/queueShare), largest, megabytes(asked), asked>>10, e.system.MemoryBy, megabytes(m))
}

func megabytes(bytes int64) string { return fmt.Sprintf("%d MB", bytes>>20) }
