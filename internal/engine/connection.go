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
	"reskafka/internal/frame"
	"reskafka/internal/host"
	"reskafka/internal/ingest"
	kafka "reskafka/internal/kafka/client"
	"reskafka/internal/kafka/produce"
	"reskafka/internal/metrics"
	"reskafka/internal/outbox"
	"reskafka/internal/record"
)

// connection is a name of kafka.conf, for the engine's life: outside handles refer to the name, and the
// client changes with the configuration. A connection removed by a reload delivers its accepted records and
// takes no more, until a later reload restores the connection.
type connection struct {
	engine *Engine
	name   string

	// Guarded by the engine's configuring.
	id      uint64 // of the gate; 0 = no producer was opened
	refusal string // the logged obstacle to the producer; the module repeats its request

	settings atomic.Pointer[config.Connection] // nil = not in the configuration in force
	gate     atomic.Pointer[Gate]              // a gate outside shared memory until a stage brings one
	failed   atomic.Bool                       // the outbox panicked and delivers nothing since
	produced atomic.Bool                       // a producer was opened before
	stored   atomic.Pointer[Gate]              // stores the producer's identity; nil = no producer was opened

	leftSpool atomic.Bool // an earlier run left something on disk
	closing   atomic.Bool // Stop has begun
	gating    sync.Mutex  // held while the gate's limits are set

	mtx     sync.Mutex // guards the next fields; not held during calls that wait
	outbox  *outbox.Outbox
	made    *config.Connection // the client's settings
	status  *kafka.Status
	counts  metrics.Counts // of records outside the outbox: refused records and broken frames
	alone   int64          // known frames without a place in shared memory
	spool   string         // the spool's directory; empty = none
	trouble error          // why the spool cannot be used for now
	told    bool           // the log says so
	givenUp map[string]int // records undelivered by Stop, by topic, until their log line
}

// Time for the old client of a changed connection to finish its work, at a reload.
const swapPatience = 5 * time.Second

// The same with idempotence. The wait is for records with an unknown outcome only: giving up may duplicate
// such a record. The time is limited, because the old login or address may never work again.
const swapPatienceOnce = 60 * time.Second

// Allowance of a frame beyond the largest message: for the topic, and the lengths of the parts. The exact
// limit is the weight; writers check the weight first.
const frameAllowance = 64 << 10

// Limit for the close of a connection's client at a stop, with hanging brokers too.
const closeLimit = 300 * time.Millisecond

// Wait for a slow disk to store the last writes, after the close of the client.
const spoolCloseLimit = 200 * time.Millisecond

// errNoSpoolDir is why a connection cannot keep anything on disk.
var errNoSpoolDir = errors.New("there is no directory for it; give spool_dir")

// errFailed is the error of a connection with a panicked outbox.
var errFailed = errors.New("it has failed, which is a defect that the log tells more of; unload and load the module to use it again")

// open creates the outbox if missing; the outbox creates its client at the first record. Caller must hold the
// engine's configuring.
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

// box returns the connection's outbox, or nil. The outbox never changes after its creation.
func (c *connection) box() *outbox.Outbox {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	return c.outbox
}

// bind makes gate the connection's gate and opens the gate. Caller must hold the engine's configuring.
func (c *connection) bind(gate *Gate) {
	if old := c.gate.Swap(gate); old != gate { // an earlier engine may have logged these
		c.mtx.Lock()
		c.alone = gate.Unshared.Load()
		c.mtx.Unlock()
		c.inherit(gate.Dropped.Load())
		gate.Dropped.Add(old.Dropped.Load())
	}
	c.setGate()
}

// droppedEarlier is the reason for records dropped by earlier engines. The log may lack these records: a
// killed engine cannot log its suppressed lines.
const droppedEarlier = "dropped by an earlier engine"

// inherit begins the account with the records dropped by earlier engines.
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

// Limits are the limits of a stage: the first fields of ingest.Gate.
type Limits struct{ Frames, Charge, Length, LingerNS, Weight, Shared, Memory int64 }

// limits returns the limits of the connection's stage with these settings.
func (c *connection) limits(settings *config.Connection) Limits {
	records, queued := c.queueLimits(settings)
	l := Limits{
		Frames: int64(records), Charge: queued, Length: int64(settings.MessageMaxBytes) + frameAllowance,
		LingerNS: int64(settings.Linger), Weight: int64(settings.MessageMaxBytes), Memory: ingest.MemoryLimit(math.MaxInt64, math.MaxInt64),
		Shared: c.engine.sharing(c.name, settings.Durability == "disk" || c.strictest() == record.Disk),
	}
	spools := c.keepsOnDisk(settings)
	c.mtx.Lock()
	spools = spools && c.trouble == nil && (c.spool != "" || c.outbox == nil && c.engine.spoolRoot(settings) != "") // there will be a spool
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

// setGate sets the limits of the stage, and opens the gate.
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
	if c.failed.Load() { // also after a failure during the call
		gate.Open.Store(0)
	}
}

// Stored implements outbox.Gate: a later engine has the record on disk.
func (*connection) Stored(r *record.Record) {
	if r.Staged != nil { // in memory that cannot be truncated: a lasting record needs its frame no more
		r.Staged.CompareAndSwap(frame.Ready, frame.Stored)
	}
}

// Release implements outbox.Gate.
func (c *connection) Release(r *record.Record) {
	c.engine.staging.release(r)
	if r.Charge != notStaged {
		c.gate.Load().Finish(1, r.Charge)
	}
}

// ReleaseAll is Release for many records.
func (c *connection) ReleaseAll(records []*record.Record) {
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
	if reason == record.ReasonStopped && c.engine.isStopped() {
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

// tellDropped logs, throttled, the number of records dropped or made dead letters: `what` names them and the
// reason.
func (c *connection) tellDropped(what string, records int, err error) {
	suppressed, ok := c.engine.allow(c.engine.dropped, throttleKey(c.name, what), records)
	if !ok {
		return
	}
	cause := ""
	if err != nil && !errors.Is(err, context.DeadlineExceeded) { // already part of `what`
		cause = ": " + err.Error()
	}
	host.Logf(c.engine.log, host.Error, "connection '%s': %d record(s) %s%s", c.name, records+suppressed, what, cause)
}

// Panicked implements outbox.Observer and closes the gate, because the outbox delivers no record after a
// panic.
func (c *connection) Panicked(recovered any) {
	c.failed.Store(true)
	c.gate.Load().Open.Store(0)
	host.LogPanic(c.engine.log, "the outbox of connection '"+c.name+"'", recovered)
}

// shutGate closes the gate for all records.
func (c *connection) shutGate() {
	c.closing.Store(true)
	c.gating.Lock()
	defer c.gating.Unlock()
	c.gate.Load().Open.Store(0)
}

// drain shuts the gate, writes durable records to disk, and waits for the outcome of all records: at most
// grace, or flush_timeout_ms for records in memory only.
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

// close ends the client and logs the undelivered records.
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
		host.Logf(c.engine.log, host.Error, "connection '%s': %d record(s) for topic '%s' dropped, %s", c.name, lost[topic], topic, record.ReasonStopped)
	}
}

// outboxSettings returns the options for the outbox.
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

// spoolSettings sets the options that change without a new client.
func (c *connection) spoolSettings(settings *config.Connection, s *outbox.Settings) {
	s.Durability = record.DurabilityOf(settings.Durability)
	s.QueueRecords, s.QueueBytes = c.queueLimits(settings)
	s.DropOldest = settings.SpoolFull == "drop_oldest"
	s.MaxAge = time.Duration(settings.SpoolMaxHours) * time.Hour
}

// change is the effect of a reload on one connection. Every step with a possible failure is done before.
type change struct {
	connection *connection
	settings   *config.Connection // nil = removed
	client     *client            // nil = the client stays, or there was none
}

// prepare creates the clients for a new configuration. After errors nothing has changed. Caller must hold the
// engine's configuring.
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

// outdated reports whether the client's options differ from next. The client of a restored connection with
// the earlier options is current.
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
	c.refusal = ""
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
