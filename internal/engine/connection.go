package engine

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/ingest"
	kafka "reskafka/internal/kafka/client"
	"reskafka/internal/kafka/produce"
	"reskafka/internal/metrics"
	"reskafka/internal/outbox"
)

// connection is a name of kafka.conf, for as long as the engine runs: handles outside name it, and the client behind
// it comes and goes with the configuration. A connection that a reload removed keeps delivering what it has accepted
// and takes nothing more, until a later reload brings it back.
type connection struct {
	engine *Engine
	id     uint64 // of its gate; 0 = no producer was opened. Guarded by the engine's configuring
	name   string

	settings atomic.Pointer[config.Connection] // nil = not in the configuration in force
	gate     atomic.Pointer[Gate]              // one of its own until a stage brings one
	failed   atomic.Bool                       // its outbox panicked and delivers nothing any more
	produced atomic.Bool                       // it has had a producer
	stored   atomic.Pointer[Gate]              // where its producer's identity is stored; nil = no producer was opened

	leftSpool atomic.Bool // an earlier run left something on disk
	closing   atomic.Bool // Stop has begun
	gating    sync.Mutex  // held while the gate's limits are set

	mtx     sync.Mutex // guards what follows; never held over a call that waits
	outbox  *outbox.Outbox
	made    *config.Connection // what the client was made with
	status  *kafka.Status
	counts  metrics.Counts // of what the outbox never gets: refused records and broken frames
	alone   int64          // frames that are known to have found no place in shared memory
	spool   string         // the directory of its spool; empty = it has none
	trouble error          // why the spool cannot be used for now
	told    bool           // the log says so
	givenUp map[string]int // records that Stop could not deliver, by topic, until it has logged them
}

// How long a reload lets the old client of a changed connection finish what it has under way.
const swapPatience = 5 * time.Second

// The same with idempotence, where only records that a broker may have are waited for: to give one up may bring it twice. It
// has an end, because the old login or address may never work again.
const swapPatienceOnce = 60 * time.Second

// How much longer than the largest message a frame may be: its topic, and the lengths that go with its parts. The
// exact limit is the weight, which writers check first.
const frameAllowance = 64 << 10

// How long a stop lets the client of a connection close, brokers that hang included.
const closeLimit = 300 * time.Millisecond

// How long it waits for a slow disk to have what was written last, once the client is closed.
const spoolCloseLimit = 200 * time.Millisecond

// errNoSpoolDir is why a connection cannot keep anything on disk.
var errNoSpoolDir = errors.New("there is no directory for it; give spool_dir")

// errFailed is what a connection answers whose outbox has panicked.
var errFailed = errors.New("it has failed, which is a defect that the log tells more of; unload and load the module to use it again")

// open makes the outbox if there is none yet; its client is made when there is something to send. The engine's configuring is held.
func (c *connection) open() error {
	if c.failed.Load() {
		return errFailed
	}
	if c.box() != nil {
		return nil
	}
	settings := c.settings.Load()
	if settings.NoProducer != "" {
		return errors.New(settings.NoProducer)
	}
	client, err := c.newClient(settings)
	if err != nil {
		return err
	}
	c.mtx.Lock()
	c.made, c.status = settings, client.status
	c.outbox = outbox.New(c.outboxSettings(settings), client, c, c)
	c.mtx.Unlock()
	c.attach()
	if c.engine.producing.Add(1) > 1 {
		c.engine.shareAnew()
	}
	return nil
}

// box is the connection's outbox, or nil. Once there is one it stays the same.
func (c *connection) box() *outbox.Outbox {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	return c.outbox
}

// bind makes gate the connection's gate and opens it. The engine's configuring is held.
func (c *connection) bind(gate *Gate) {
	if old := c.gate.Swap(gate); old != gate { // an engine before this one may have logged these
		c.mtx.Lock()
		c.alone = gate.Unshared.Load()
		c.mtx.Unlock()
		c.inherit(gate.Dropped.Load())
		gate.Dropped.Add(old.Dropped.Load())
	}
	c.setGate()
}

// droppedEarlier is the reason for records that engines before this one have dropped. The log may lack them: an engine that is
// killed cannot log the lines that it holds back.
const droppedEarlier = "dropped by an earlier engine"

// inherit begins the account with the records that earlier engines have dropped.
func (c *connection) inherit(dropped int64) {
	if dropped <= 0 || dropped > math.MaxInt32 { // the memory is shared with another process
		return
	}
	c.mtx.Lock()
	c.counts.Add(metrics.RecordsAccepted, int(dropped))
	c.counts.AddFor(metrics.RecordsDropped, droppedEarlier, int(dropped))
	c.mtx.Unlock()
	host.Logf(c.engine.log, host.Notice, "connection '%s': engines before this one dropped %d record(s) in all", c.name, dropped)
}

// Limits are what a stage lets in: the first fields of ingest.Gate.
type Limits struct{ Frames, Charge, Length, LingerNS, Weight, Shared, Memory int64 }

// limits returns what the connection's stage may let in with these settings.
func (c *connection) limits(settings *config.Connection) Limits {
	records, queued := c.queueLimits(settings)
	l := Limits{
		Frames: int64(records), Charge: queued, Length: int64(settings.MessageMaxBytes) + frameAllowance,
		LingerNS: int64(settings.Linger), Weight: int64(settings.MessageMaxBytes), Memory: ingest.MemoryLimit(math.MaxInt64, math.MaxInt64),
		Shared: c.engine.sharing(c.name, settings.Durability == "disk" || c.strictest() == outbox.Disk),
	}
	spools := c.keepsOnDisk(settings)
	c.mtx.Lock()
	spools = spools && c.trouble == nil && (c.spool != "" || c.outbox == nil && c.engine.spoolRoot(settings) != "") // it will have one
	c.mtx.Unlock()
	if spools {
		l.Frames, l.Charge = max(l.Frames, spooledFrames), max(l.Charge, spooledCharge)
		if share := c.engine.queueBytes(); share > 0 {
			l.Frames, l.Charge = min(l.Frames, max(int64(records), share/recordBytes)), min(l.Charge, share)
		}
	}
	if settings.Durability == "memory" {
		l.Memory = ingest.MemoryLimit(int64(records), queued)
	}
	return l
}

// setGate sets the limits of the stage, and opens it.
func (c *connection) setGate() {
	c.gating.Lock()
	defer c.gating.Unlock()
	gate, settings := c.gate.Load(), c.settings.Load()
	if settings == nil {
		gate.Open.Store(0)
		return
	}
	l := c.limits(settings)
	gate.Memory.Store(l.Memory)
	gate.MaxFrames.Store(l.Frames)
	gate.MaxCharge.Store(l.Charge)
	gate.MaxWeight.Store(l.Weight)
	gate.MaxLength.Store(l.Length)
	gate.LingerNS.Store(l.LingerNS)
	gate.Shared.Store(l.Shared)
	if !c.closing.Load() {
		gate.Open.Store(1)
	}
	if c.failed.Load() { // also when it failed just now
		gate.Open.Store(0)
	}
}

// Release implements outbox.Gate.
func (c *connection) Release(r *outbox.Record) {
	c.engine.staging.release(r)
	if r.Charge != notStaged {
		c.gate.Load().Finish(1, r.Charge)
	}
}

// ReleaseAll is Release for many records.
func (c *connection) ReleaseAll(records []*outbox.Record) {
	frames, charge := int64(0), int64(0)
	for _, r := range records {
		c.engine.staging.release(r)
		if r.Charge != notStaged {
			frames++
			charge += r.Charge
		}
	}
	c.gate.Load().Finish(frames, charge)
}

// Dropped implements outbox.Observer.
func (c *connection) Dropped(topic, reason string, records int, err error) {
	if reason == outbox.ReasonStopped && c.engine.isStopped() {
		c.mtx.Lock()
		defer c.mtx.Unlock()
		if c.givenUp == nil {
			c.givenUp = map[string]int{}
		}
		c.givenUp[topic] += records
		return
	}
	if gate := c.gate.Load(); gate != nil {
		gate.Dropped.Add(int64(records))
	}
	of := fmt.Sprintf("for topic '%s'", topic)
	if topic == "" {
		of = "of an earlier run, dead letters,"
	}
	c.tellDropped(fmt.Sprintf("%s dropped, %s", of, reason), records, err)
}

// Died implements outbox.Observer.
func (c *connection) Died(topic, reason string, records int, err error) {
	c.tellDropped(fmt.Sprintf("for topic '%s' became dead letters (kafka spool retry %s sends them again), %s", topic, c.name, reason), records, err)
}

// tellDropped logs, throttled, that records were dropped or became dead letters: what says which and why.
func (c *connection) tellDropped(what string, records int, err error) {
	suppressed, ok := c.engine.allow(c.engine.dropped, throttleKey(c.name, what), records)
	if !ok {
		return
	}
	cause := ""
	if err != nil && !errors.Is(err, context.DeadlineExceeded) { // which what says already
		cause = ": " + err.Error()
	}
	host.Logf(c.engine.log, host.Error, "connection '%s': %d record(s) %s%s", c.name, records+suppressed, what, cause)
}

// Panicked implements outbox.Observer: no record is taken that nobody would deliver.
func (c *connection) Panicked(recovered any) {
	c.failed.Store(true)
	c.gate.Load().Open.Store(0)
	host.LogPanic(c.engine.log, "the outbox of connection '"+c.name+"'", recovered)
}

// shutGate lets nothing in any more.
func (c *connection) shutGate() {
	c.closing.Store(true)
	c.gating.Lock()
	defer c.gating.Unlock()
	c.gate.Load().Open.Store(0)
}

// drain shuts the gate, has what must not be lost written to disk, and waits until everything has its outcome: as long as
// grace, or flush_timeout_ms for what is in memory only.
func (c *connection) drain(grace time.Duration) {
	c.shutGate()
	box := c.box()
	if box == nil {
		return
	}
	box.Spill()
	if s := c.settings.Load(); grace > 0 && s != nil && s.Durability == "memory" {
		grace = s.FlushTimeout
	}
	patience := make(chan struct{})
	timer := time.AfterFunc(grace, func() { close(patience) })
	defer timer.Stop()
	box.Drain(patience)
}

// close ends the client and logs what it could not deliver any more.
func (c *connection) close() {
	box := c.box()
	if box == nil {
		return
	}
	box.CloseWithin(closeLimit)
	numbers := metrics.Of(c.name)
	box.Collect(numbers)
	if kept := numbers.Sum(metrics.RecordsSpooled); kept > 0 {
		host.Logf(c.engine.log, host.Notice, "connection '%s': %d record(s) are kept in %s until the next start", c.name, kept, c.spoolDir())
	}
	c.mtx.Lock()
	lost := c.givenUp
	c.givenUp = nil
	c.mtx.Unlock()
	for _, topic := range slices.Sorted(maps.Keys(lost)) {
		host.Logf(c.engine.log, host.Error, "connection '%s': %d record(s) for topic '%s' dropped, %s", c.name, lost[topic], topic, outbox.ReasonStopped)
	}
}

// outboxSettings are the options that the outbox obeys.
func (c *connection) outboxSettings(settings *config.Connection) outbox.Settings {
	records, bytes := produce.Window()
	s := outbox.Settings{
		Timeout:       settings.MessageTimeout,
		WindowRecords: records,
		WindowBytes:   bytes,
		Backoff:       settings.ReconnectBackoff,
		BackoffMax:    settings.ReconnectBackoffMax,
	}
	c.spoolSettings(settings, &s)
	return s
}

// spoolSettings sets the options that are in force without another client.
func (c *connection) spoolSettings(settings *config.Connection, s *outbox.Settings) {
	s.Durability = outbox.DurabilityOf(settings.Durability)
	s.QueueRecords, s.QueueBytes = c.queueLimits(settings)
	s.DropOldest = settings.SpoolFull == "drop_oldest"
	s.MaxAge = time.Duration(settings.SpoolMaxHours) * time.Hour
}

// change is what a reload does to one connection: everything that can fail has been done.
type change struct {
	connection *connection
	settings   *config.Connection // nil = removed
	client     *client            // nil = the client stays, or there never was one
}

// prepare makes the clients that a configuration needs in place of others. With errors nothing has changed. The
// engine's configuring is held.
func prepare(known []*connection, wanted map[string]*config.Connection) ([]change, []error) {
	var changes []change
	var failed []error
	for _, c := range known {
		ch := change{connection: c, settings: wanted[config.NameKey(c.name)]}
		if ch.settings != nil && c.outdated(ch.settings) {
			var err error
			if ch.client, err = c.newClient(ch.settings); err != nil {
				failed = append(failed, err)
			}
		}
		changes = append(changes, ch)
	}
	if failed != nil {
		return nil, failed
	}
	return changes, nil
}

// outdated says whether there is a client that was made with other options than next has. One of a connection that is
// back as it was before it was removed is not.
func (c *connection) outdated(next *config.Connection) bool {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	return c.made != nil && slices.ContainsFunc(c.made.Changed(next), func(o *config.Info) bool { return o.Reload == config.Reconnects })
}

// apply puts the change in force. The engine's configuring is held.
func (ch change) apply() {
	c := ch.connection
	if before := c.settings.Load(); before != nil && ch.settings != nil && c.spoolDir() != "" && before.SpoolDir != ch.settings.SpoolDir {
		host.Logf(c.engine.log, host.Warning, "connection '%s': spool_dir is %s until the module has been unloaded and loaded", c.name, filepath.Dir(c.spoolDir()))
	}
	c.settings.Store(ch.settings)
	box := c.box()
	if box == nil {
		return
	}
	if ch.client != nil {
		c.mtx.Lock()
		patience := swapPatience
		if c.made.Idempotence {
			patience = swapPatienceOnce
		}
		ch.client.status.Follow(c.status)
		c.made, c.status = ch.settings, ch.client.status
		c.mtx.Unlock()
		box.Swap(ch.client, c.outboxSettings(ch.settings), patience)
	}
	if ch.settings != nil {
		c.attach()
		box.Adjust(func(s *outbox.Settings) { c.spoolSettings(ch.settings, s) }, spoolLimits(ch.settings))
	}
	c.setGate()
}
