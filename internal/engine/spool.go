package engine

import (
	"path/filepath"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/console"
	"reskafka/internal/host"
	"reskafka/internal/metrics"
	"reskafka/internal/outbox"
	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// Limits of the stage for a connection with a disk: the outbox applies the queue's own limits. These limits
// bound the records in memory while a disk hangs.
const (
	spooledFrames = 200_000
	spooledCharge = 64 << 20
)

// spoolRoot returns the parent directory of a connection's spool; empty = none.
func (e *Engine) spoolRoot(settings *config.Connection) string {
	if settings.SpoolDir != "" {
		return settings.SpoolDir
	}
	if e.system.SpoolDir == "" {
		return ""
	}
	return filepath.Join(e.system.SpoolDir, "kafka")
}

// spoolLimits returns a spool's options.
func spoolLimits(c *config.Connection) spool.Limits {
	sync := map[string]spool.Sync{"always": spool.SyncAlways, "interval": spool.SyncInterval, "none": spool.SyncNone}
	return spool.Limits{MaxBytes: int64(c.SpoolMaxMbytes) << 20, Sync: sync[c.SpoolSync]}
}

// keepsOnDisk reports whether new records may go to disk, by the connection's own option or by an event
// source's.
func (c *connection) keepsOnDisk(settings *config.Connection) bool {
	return settings.Durability != "memory" || c.strictest() >= record.Overflow
}

// strictest returns the strictest durability of the connection's open event sources.
func (c *connection) strictest() record.Durability {
	most := record.Unsaid
	for _, s := range *c.engine.sources.Load() {
		if s.Source != nil && s.Connection() == c.name {
			most = max(most, s.Durability())
		}
	}
	return most
}

// attach adds a necessary spool to the connection's outbox. Caller must hold the engine's configuring.
func (c *connection) attach() {
	box, settings := c.box(), c.settings.Load()
	if box == nil || settings == nil || c.spoolDir() != "" {
		return
	}
	if !c.keepsOnDisk(settings) && !c.leftSpool.Load() {
		return
	}
	root := c.engine.spoolRoot(settings)
	if root == "" {
		c.Spooling(errNoSpoolDir)
		return
	}
	dir := spool.Dir(root, c.name)
	c.mtx.Lock()
	c.spool = dir
	c.mtx.Unlock()
	box.Attach(func() (outbox.Spool, error) {
		limits := spoolLimits(settings)
		if now := c.settings.Load(); now != nil {
			limits = spoolLimits(now)
		}
		s, err := spool.Open(dir, spool.Options{Connection: c.name, Limits: limits, Log: c.engine.log, CloseLimit: spoolCloseLimit, Clock: c.engine.clock})
		if err != nil {
			return nil, err
		}
		found := uint64(0)
		for _, l := range s.Logs() {
			found += l.Next - l.First
		}
		if found > 0 {
			host.Logf(c.engine.log, host.Notice, "connection '%s': %d record(s) that an earlier run left in %s are being sent", c.name, found, dir)
		}
		return s, nil
	})
	c.setGate()
}

// spoolDir returns the directory of the connection's spool; empty = none.
func (c *connection) spoolDir() string {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	return c.spool
}

// Spooling implements outbox.Observer.
func (c *connection) Spooling(trouble error) {
	c.mtx.Lock()
	was, told := c.trouble, c.told
	c.trouble = trouble
	if trouble == nil {
		c.told = false
	}
	c.mtx.Unlock()
	defer c.setGate() // after the log line
	switch {
	case trouble != nil:
		if _, ok := c.engine.spools.Allow(c.name); ok {
			c.mtx.Lock()
			c.told = true
			c.mtx.Unlock()
			host.Logf(c.engine.log, host.Error, "connection '%s': the spool cannot be used, what it should keep waits in memory: %v", c.name, trouble)
		}
	case was != nil:
		c.engine.spools.Forget(c.name)
		if !told { // a full spool fails repeatedly: a recovery is logged only after a logged failure
			return
		}
		host.Logf(c.engine.log, host.Notice, "connection '%s': the spool can be used again", c.name)
	}
}

// adoptSpools opens connections with records of an earlier run on disk, even without a producer, and logs
// spools without a connection. Caller must hold the engine's configuring.
func (e *Engine) adoptSpools() {
	seen := map[string]bool{}
	for _, c := range e.inForce() {
		root := e.spoolRoot(c.settings.Load())
		if root == "" || seen[root] {
			continue
		}
		seen[root] = true
		found, err := spool.List(root)
		if err != nil {
			e.logOnce(host.Warning, "looking for what earlier runs left in %s: %v", root, err)
		}
		for _, f := range found {
			e.adoptSpool(root, f)
		}
	}
}

func (e *Engine) adoptSpool(root string, f spool.Found) {
	if !f.Records {
		return
	}
	e.mtx.Lock()
	known := e.byName[config.NameKey(f.Connection)]
	e.mtx.Unlock()
	if known != nil && known.spoolDir() == f.Dir { // in use, perhaps by a connection removed by a reload
		return
	}
	c, err := e.connection(f.Connection)
	if err != nil || c.name != f.Connection || e.spoolRoot(c.settings.Load()) != root {
		if _, told := e.staging.warned.LoadOrStore(f.Dir, true); !told {
			host.Logf(e.log, host.Warning, "%s holds records of connection '%s', which kafka.conf does not have there; reskafka spool replay sends them", f.Dir, f.Connection)
		}
		return
	}
	if c.leftSpool.Swap(true) {
		return
	}
	if err := c.open(); err != nil {
		host.Logf(e.log, host.Error, "records in %s cannot be sent: %v", f.Dir, err)
		return
	}
	c.attach() // the connection may have been open before
}

// Spools implements console.Env.
func (e *Engine) Spools() []console.SpoolStatus {
	var all []console.SpoolStatus
	for _, c := range e.inForce() {
		if s, ok := c.spoolStatus(); ok {
			all = append(all, s)
		}
	}
	return all
}

// Spool implements console.Env.
func (e *Engine) Spool(name string) (console.SpoolStatus, bool) {
	c, err := e.connection(name)
	if err != nil {
		return console.SpoolStatus{}, false
	}
	return c.spoolStatus()
}

// spoolStatus returns the state of a connection's spool. ok = false: the connection is not in the
// configuration.
func (c *connection) spoolStatus() (s console.SpoolStatus, ok bool) {
	settings := c.settings.Load()
	if settings == nil {
		return s, false
	}
	s = console.SpoolStatus{
		Name: c.name, Durability: settings.Durability, Dir: c.spoolDir(), State: console.SpoolUnused,
		Numbers: metrics.Of(c.name),
	}
	s.Numbers.Add(metrics.SpoolLimit, uint64(spoolLimits(settings).MaxBytes))
	if s.Dir == "" {
		if root := c.engine.spoolRoot(settings); root != "" {
			s.Dir = spool.Dir(root, c.name)
		}
	}
	box := c.box()
	if box == nil {
		return s, true
	}
	usage, trouble, attached := box.Usage()
	if !attached {
		return s, true
	}
	s.State = console.SpoolInUse
	if trouble != nil {
		s.State = trouble.Error()
	}
	box.Collect(s.Numbers)
	usage.Collect(s.Numbers)
	return s, true
}

// RetrySpool implements console.Env.
func (e *Engine) RetrySpool(name, topic string) (console.RetryResult, error) {
	box, err := e.boxOf(name)
	if err != nil || box == nil {
		return console.RetryResult{}, err
	}
	letters, topics, err := box.Retry(topic)
	return console.RetryResult{Letters: uint64(letters), Topics: topics}, err
}

// PurgeSpool implements console.Env.
func (e *Engine) PurgeSpool(name, topic string) (console.PurgeResult, error) {
	box, err := e.boxOf(name)
	if err != nil || box == nil {
		return console.PurgeResult{}, err
	}
	before, _, _ := box.Usage()
	records, letters, err := box.Purge(topic)
	after, _, _ := box.Usage()
	for limit := time.Now().Add(2 * time.Second); after.Bytes >= before.Bytes && before.Bytes > 0 && time.Now().Before(limit); after, _, _ = box.Usage() {
		time.Sleep(10 * time.Millisecond) // files are removed within a second
	}
	return console.PurgeResult{Records: uint64(records), Letters: uint64(letters), Bytes: max(0, before.Bytes-after.Bytes)}, err
}

// boxOf returns the outbox of a connection; nil = none yet, or without records on disk.
func (e *Engine) boxOf(name string) (*outbox.Outbox, error) {
	c, err := e.connection(name)
	if err != nil {
		return nil, err
	}
	box := c.box()
	if box == nil || !box.Attached() {
		return nil, nil
	}
	return box, nil
}
