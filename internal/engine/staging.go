package engine

import (
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"reskafka/internal/event"
	"reskafka/internal/frame"
	"reskafka/internal/host"
	"reskafka/internal/ingest"
	"reskafka/internal/record"
)

// staging is the engine's state of the shared memory: the folder of the stages' slabs, and the slabs of
// killed runs. The engine's configuring guards all fields except run, err, removed, underWay and settled.
type staging struct {
	run       *ingest.Run // nil = there is no shared memory, because of
	err       error       // which is set before removed
	removed   atomic.Bool // the folder is gone
	warned    sync.Map    // connections with records outside shared memory despite the option, by name
	dead      []*ingest.Dead
	leftovers map[string][]*leftover // by label, in order
	told      map[string]bool        // logged lines about leftovers, once each

	underWay atomic.Int64  // records of dead runs with frames still in use
	settled  chan struct{} // holds a token when there has come to be none
}

// A leftover is a slab without living writers.
type leftover struct {
	by   string // the writers' description
	slab *frame.Slab
	seen map[int]bool // handled frames, by offset
}

// openStaging creates a folder for this run, or reuses the folder of the dead engine before.
func (e *Engine) openStaging() {
	s := &e.staging
	s.settled = make(chan struct{}, 1)
	s.leftovers, s.told = map[string][]*leftover{}, map[string]bool{}
	if folder := e.system.StageFolder; folder != "" {
		s.run, s.err = ingest.JoinRun(ingest.Base, e.system.SpoolDir, folder)
	} else {
		s.run, s.err = ingest.NewRun(ingest.Base, e.system.SpoolDir)
	}
	if s.err != nil {
		host.Logf(e.log, host.Debug, "nothing is staged in shared memory: %v", s.err)
	}
}

// findLeftovers adopts undelivered slabs of earlier runs, at the start and at each reload: the administrator
// may have transferred a folder to this user meanwhile. Caller must hold the engine's configuring.
func (e *Engine) findLeftovers() {
	s := &e.staging
	if e.system.SpoolDir == "" {
		return
	}
	found, err := ingest.Find(ingest.Base, e.system.SpoolDir)
	if err != nil {
		e.logOnce(host.Warning, "%v", err)
	}
	for _, f := range found.Foreign {
		e.logOnce(host.Warning, "%s, then module reload res_kafka.so", f)
	}
	s.dead = append(s.dead, found.Dead...)
	for _, d := range found.Dead {
		for _, err := range d.Bad {
			e.logOnce(host.Warning, "what an earlier run (pid %s) staged cannot be used and is left where it is: %v", d.PID, err)
		}
		for _, slab := range d.Slabs {
			s.leftovers[slab.Label] = append(s.leftovers[slab.Label], &leftover{fmt.Sprintf("an earlier run (pid %s)", d.PID), slab, map[int]bool{}})
		}
	}
}

// TakeRest accepts the frames never handed over by the ended Asterisk process. The slabs are in use until
// Stop.
func (e *Engine) TakeRest(slabs []*frame.Slab) {
	e.configuring.Lock()
	defer e.configuring.Unlock()
	if e.isStopped() {
		return
	}
	for _, slab := range slabs {
		label := slab.Label
		if c := e.byID(slab.Stage); label == "" && c != nil { // the name is too long for a label; stages have the numbers of their gates
			label = c.name
		}
		e.staging.leftovers[label] = append(e.staging.leftovers[label], &leftover{"Asterisk's last moments", slab, map[int]bool{}})
	}
	e.adopt()
}

// logOnce logs a line about leftovers once. The engine's configuring is held.
func (e *Engine) logOnce(level host.Level, format string, args ...any) {
	text := fmt.Sprintf(format, args...)
	if !e.staging.told[text] {
		e.staging.told[text] = true
		host.LogDepth(e.log, 1, level, text)
	}
}

// StageFolder returns the folder for shared slabs; empty = none. The result is constant until Stop.
func (e *Engine) StageFolder() string {
	if e.staging.run == nil {
		return ""
	}
	return e.staging.run.Folder()
}

// sharing returns 1 if a stage should put its records into shared memory, else 0. A missing folder is logged
// once for each connection.
func (e *Engine) sharing(connection string, wanted bool) int64 {
	if !wanted {
		return 0
	}
	if e.staging.run != nil && !e.staging.removed.Load() {
		return 1
	}
	if _, told := e.staging.warned.LoadOrStore(connection, true); !told {
		host.Logf(e.log, host.Warning, "connection '%s': durability = disk, but %v: the records of its last moments are lost when Asterisk is killed",
			connection, e.staging.err)
	}
	return 0
}

// checkStage checks whether another process has removed the run's folder. Existing slabs would stay in use
// without an error, and no later run could find them.
func (e *Engine) checkStage() {
	s := &e.staging
	if s.run == nil || s.removed.Load() || !s.run.Removed() {
		return
	}
	s.err = fmt.Errorf("somebody has removed %s", s.run.Folder())
	s.removed.Store(true)
	e.configuring.Lock()
	defer e.configuring.Unlock()
	for _, c := range *e.connections.Load() {
		c.setGate()
	}
}

// release marks a staged record's frame as unused.
func (s *staging) release(r *record.Record) {
	if r.Staged == nil {
		return
	}
	frame.Finish(r.Staged, r.Lasting)
	if r.Charge == notStaged && s.underWay.Add(-1) == 0 {
		select {
		case s.settled <- struct{}{}:
		default:
		}
	}
}

// adopt makes the outboxes accept the leftovers of connections in the configuration, and opens these
// connections. Events wait until a source is open. Caller must hold the engine's configuring.
func (e *Engine) adopt() {
	for _, label := range slices.Sorted(maps.Keys(e.staging.leftovers)) {
		slabs := e.staging.leftovers[label]
		c, err := e.connection(label)
		if err == nil {
			err = c.open()
		}
		if err != nil {
			n := 0
			for _, l := range slabs {
				n += l.slab.Waiting()
			}
			e.tellWaiting(label, slabs[0].by, n, fmt.Sprintf("until it can be used: %v", err), host.Warning)
			continue
		}
		t := taking{connection: c, recovered: true}
		accepted := map[string]int{}
		for _, l := range slabs {
			accepted[l.by] += t.adopt(l)
		}
		t.finish()
		for by, n := range accepted {
			if n > 0 {
				host.Logf(e.log, host.Notice, "connection '%s': %d record(s) staged by %s are being sent", label, n, by)
			}
		}
		if t.waiting > 0 {
			e.tellWaiting(label, slabs[0].by, t.waiting, "until the module they came from is there", host.Notice)
		} else {
			delete(e.staging.leftovers, label)
		}
	}
	e.sweep()
}

// tellWaiting logs, once, leftovers in wait.
func (e *Engine) tellWaiting(label, by string, n int, until string, level host.Level) {
	if n == 0 || e.staging.told[label+until] {
		return
	}
	e.staging.told[label+until] = true
	host.Logf(e.log, level, "connection '%s': %d record(s) staged by %s wait in shared memory %s", label, n, by, until)
}

// adopt converts the usable frames of a leftover to records, and returns the number of records.
func (t *taking) adopt(l *leftover) (accepted int) {
	t.handed = ingest.Range{States: l.slab.State, Lasting: l.slab.Lasting}
	before := t.added
	turn := func(f *frame.Frame) bool {
		switch {
		case l.seen[f.At]:
			return false
		case f.Source != 0 && t.connection.engine.sourceOf(f.Source) == nil:
			t.waiting++
			return false
		}
		l.seen[f.At] = true
		return true
	}
	err := l.slab.Clone().Each(func(f *frame.Frame) {
		if turn(f) {
			t.frame(f)
		}
	}, func(f *frame.Frame, err error) {
		if !l.seen[f.At] {
			l.seen[f.At] = true
			t.damaged(f, err)
		}
	})
	if err != nil {
		host.Logf(t.connection.engine.log, host.Error, "connection '%s': reading what was staged by %s: %v; what is behind it is lost",
			t.connection.name, l.by, err)
	}
	return t.added - before
}

// sweep removes unneeded folders of earlier runs. Caller must hold the engine's configuring.
func (e *Engine) sweep() {
	e.staging.dead = slices.DeleteFunc(e.staging.dead, func(d *ingest.Dead) bool {
		if d.Waiting() > 0 {
			return false
		}
		e.forget(d)
		return true
	})
}

// forget releases a dead run: the folder is removed if all frames are done.
func (e *Engine) forget(d *ingest.Dead) {
	for label, slabs := range e.staging.leftovers {
		slabs = slices.DeleteFunc(slabs, func(l *leftover) bool { return slices.Contains(d.Slabs, l.slab) })
		if e.staging.leftovers[label] = slabs; len(slabs) == 0 {
			delete(e.staging.leftovers, label)
		}
	}
	if err := d.Close(); err != nil {
		host.Logf(e.log, host.Warning, "%v", err)
	}
}

// closeStaging ends the use of shared memory, once no record is in flight. Unfinished frames stay for the
// next run.
func (e *Engine) closeStaging() {
	e.configuring.Lock()
	defer e.configuring.Unlock()
	for _, d := range e.staging.dead {
		e.forget(d)
	}
	e.staging.dead = nil
	e.tellLost()
	if e.staging.run == nil {
		return
	}
	waiting, err := e.staging.run.Close()
	switch {
	case e.staging.removed.Load(): // which has been said
	case err != nil:
		host.Logf(e.log, host.Warning, "ending the use of shared memory: %v", err)
	case waiting > 0:
		host.Logf(e.log, host.Notice, "%d record(s) are left in shared memory for the next start", waiting)
	}
}

// tellLost logs records lost with the end of this process.
func (e *Engine) tellLost() {
	for _, label := range slices.Sorted(maps.Keys(e.staging.leftovers)) {
		n := 0
		for _, l := range e.staging.leftovers[label] {
			if !l.slab.Lasting {
				n += l.slab.Waiting()
			}
		}
		if n > 0 {
			host.Logf(e.log, host.Error, "connection '%s': %d record(s) from Asterisk's last moments dropped, nothing could send them", label, n)
		}
	}
}

// An openSource is an event source with the number of its kind, repeated in the upper half of the source's
// number: a later run can therefore read the frame.
type openSource struct {
	event.Source
	kind uint32
}

// sourceOf returns the latest source of the same kind as a source of an earlier run.
func (e *Engine) sourceOf(number uint64) event.Source {
	for _, s := range slices.Backward(*e.sources.Load()) {
		if s.kind == uint32(number>>32) {
			return s.Source
		}
	}
	return nil
}
