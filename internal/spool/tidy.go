package spool

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"
	"time"

	"reskafka/internal/host"
)

// task is work done with a delay, on its own goroutine. Without work there is no timer. Spool.mtx guards it.
type task struct {
	after time.Duration
	what  string
	run   func()
	timer *time.Timer // nil = nothing to do
}

// arm schedules a run of the task after its delay.
func (t *task) arm(s *Spool) {
	if t.timer != nil || s.closed {
		return
	}
	s.running.Add(1)
	t.timer = time.AfterFunc(t.after, func() {
		defer s.running.Done()
		defer host.Guard(s.log, t.what)
		t.run()
	})
}

// stop cancels a scheduled run.
func (t *task) stop(running *sync.WaitGroup) {
	if t.timer != nil && t.timer.Stop() {
		running.Done()
	}
	t.timer = nil
}

// writeCellsLater is the task cells.
func (s *Spool) writeCellsLater() {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.cells.timer = nil
	if s.closed {
		return // Close does the work
	}
	if err := s.writeCells(); err != nil {
		s.warn("settled", "what has been delivered cannot be noted down and may be sent again: %v", err)
		s.tidy.arm(s) // which tries again
	}
}

func (s *Spool) writeCells() error {
	var first error
	for l := range s.dirty {
		if !l.cellDirty {
			continue
		}
		if err := s.writeCell(l); err != nil && first == nil {
			first = fmt.Errorf("writing what is settled: %w", err)
		}
	}
	return first
}

// tidyLater is the task tidy: it syncs written files, in parallel with other calls, and frees space.
func (s *Spool) tidyLater() {
	paths, segments := s.toSync()
	failed := map[int]error{}
	for i, path := range paths {
		if err := s.sync(path); err != nil {
			failed[i] = err
		}
	}
	s.mtx.Lock()
	defer s.mtx.Unlock()
	for i := range failed {
		if g := segments[i]; g != nil {
			g.sealed = true // the disk's state is unknown: continue in another segment
		}
	}
	if s.closed {
		return // perhaps long ago, without a caller to inform
	}
	for i, err := range failed {
		s.warn("syncing", "%s cannot be forced to the disk: %v", paths[i], err)
	}
	if err := s.removeSettled(); err != nil {
		s.warn("reclaiming", "room cannot be given back: %v", err)
	}
	if len(s.dirty) > 0 {
		s.tidy.arm(s)
	}
}

// toSync writes the files "settled" and returns the files to sync: segments, and, with nil, all other paths.
func (s *Spool) toSync() (paths []string, segments []*segment) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	s.tidy.timer = nil
	if s.closed {
		return nil, nil
	}
	if err := s.writeCells(); err != nil {
		s.warn("settled", "what has been delivered cannot be noted down and may be sent again: %v", err)
	}
	return s.takeUnsynced()
}

func (s *Spool) takeUnsynced() (paths []string, segments []*segment) {
	for path, g := range s.unsynced {
		if g != nil {
			g.unsynced = false
		}
		paths, segments = append(paths, path), append(segments, g)
	}
	clear(s.unsynced)
	for l := range s.dirty {
		l.synced = l.cell
		if l.synced.sequence > 0 {
			paths, segments = append(paths, l.settledPath()), append(segments, nil)
		}
	}
	if s.limit().Sync == SyncNone {
		return nil, nil
	}
	return paths, segments
}

// sync forces a file or a directory to the disk. A removed file needs no sync.
func (s *Spool) sync(path string) error {
	f, err := s.fs.Open(path, os.O_RDONLY)
	if err == nil {
		err = f.Sync()
		_ = f.Close()
	}
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return err
}

// removeSettled removes segments whose settlement is on disk.
func (s *Spool) removeSettled() error {
	var first error
	for l := range s.dirty {
		if err := s.undoRest(l); err != nil && first == nil {
			first = err
		}
		known := l.synced.settled
		kept := l.gone[:0]
		for _, g := range l.gone {
			err := errNotYet
			if g.end <= known {
				err = s.remove(l, g)
			}
			if err != nil {
				kept = append(kept, g)
				if first == nil && err != errNotYet {
					first = err
				}
			}
		}
		clear(l.gone[len(kept):])
		l.gone = kept
		if len(l.segs) == 1 && l.empty() && known == l.next {
			if err := s.remove(l, l.segs[0]); err == nil {
				l.segs = nil
			} else if first == nil {
				first = err
			}
		}
		if len(l.gone) == 0 && len(l.left) == 0 && !l.cellDirty && (len(l.segs) == 0 || !l.empty()) {
			delete(s.dirty, l)
		}
	}
	return first
}

var errNotYet = errors.New("not yet")

// reclaim does the work of tidy at once, for all logs.
func (s *Spool) reclaim() error {
	first := s.writeCells()
	if err := s.syncAll(s.takeUnsynced()); first == nil {
		first = err
	}
	if err := s.removeSettled(); first == nil {
		first = err
	}
	return first
}

// syncAll forces the result of takeUnsynced to the disk. Segments with a failed sync are not written again.
func (s *Spool) syncAll(paths []string, segments []*segment) (first error) {
	for i, path := range paths {
		if err := s.sync(path); err != nil {
			if segments[i] != nil {
				segments[i].sealed = true
			}
			if first == nil {
				first = fmt.Errorf("forcing the spool to the disk: %w", err)
			}
		}
	}
	return first
}

// syncNow forces the writes of an append to the disk, with new directories.
func (s *Spool) syncNow(l *topicLog, before state) error {
	for _, g := range l.segs[max(before.segs-1, 0):] {
		if !g.unsynced {
			continue
		}
		if err := s.sync(l.path(g)); err != nil {
			return fmt.Errorf("forcing a segment to the disk: %w", err)
		}
		g.unsynced = false
		delete(s.unsynced, l.path(g))
	}
	for path, g := range s.unsynced {
		if g == nil {
			if err := s.sync(path); err != nil {
				return fmt.Errorf("forcing a directory to the disk: %w", err)
			}
			delete(s.unsynced, path)
		}
	}
	return nil
}
