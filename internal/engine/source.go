package engine

import (
	"math"

	"reskafka/internal/config"
	"reskafka/internal/event"
	"reskafka/internal/host"
)

// OpenSource reads an event source's configuration file. Number 0 opens a new source; any other number
// replaces the source of the same number. An unknown number belongs to a source opened by an earlier engine:
// the upper half is the kind. OpenSource returns the number, and the connection's name, as in kafka.conf.
// After a failure all problems are logged, and the previous source of the number stays in force. Errors:
// ErrNotFound (unknown kind, number of another kind), ErrInvalid; ErrStopped, not logged.
func (e *Engine) OpenSource(kind string, entries []config.Entry, number uint64) (uint64, string, error) {
	e.configuring.Lock()
	defer e.configuring.Unlock()
	if e.isStopped() {
		return 0, "", ErrStopped
	}
	known, ok := event.Lookup(kind)
	if !ok {
		host.Logf(e.log, host.Error, "there is no event source of kind '%s'", kind)
		return 0, "", ErrNotFound
	}
	source, problems := known.Open(entries, e.system)
	e.report(problems)
	if source == nil {
		return 0, "", ErrInvalid
	}
	c, err := e.connection(source.Connection())
	if err != nil {
		why := e.whyNone(source.Connection())
		if err == ErrDisabled {
			why = "Kafka is disabled (enabled = no in section [general] of kafka.conf)"
		}
		if number == 0 { // the module declines to load, for any kafka.conf
			why += "; once it is mended, module load " + known.Module + ".so"
		}
		host.Logf(e.log, host.Error, "%s: connection = %s: %s", known.File, source.Connection(), why)
		return 0, "", ErrInvalid
	}
	if err := c.open(); err != nil { // before any change: the module requests its producer next
		host.Logf(e.log, host.Error, "%s: connection = %s: %v", known.File, source.Connection(), err)
		return 0, "", ErrInvalid
	}
	if number == 0 {
		number = uint64(known.Number)<<32 | uint64(len(*e.sources.Load())+1)
	}
	if !e.putSource(openSource{source, known.Number}, number) {
		host.Logf(e.log, host.Error, "there is no event source number %d of kind '%s' to reload", number&math.MaxUint32, kind)
		return 0, "", ErrNotFound
	}
	c.attach()
	c.setGate()
	e.adopt()
	e.createLater(c, source)
	return number, c.name, nil
}

// putSource sets the source of a number, and reports whether the number is possible. Caller must hold
// configuring.
func (e *Engine) putSource(s openSource, number uint64) bool {
	index, list := number&math.MaxUint32, *e.sources.Load()
	if number>>32 != uint64(s.kind) || index == 0 || index > maxNumber {
		return false
	}
	if index <= uint64(len(list)) && list[index-1].Source != nil && list[index-1].kind != s.kind {
		return false
	}
	grown := make([]openSource, max(uint64(len(list)), index))
	copy(grown, list)
	grown[index-1] = s
	e.sources.Store(&grown)
	return true
}

// source returns the open event source with this number.
func (e *Engine) source(number uint64) event.Source {
	list := *e.sources.Load()
	index := number & math.MaxUint32
	if index == 0 || index > uint64(len(list)) {
		return nil
	}
	return list[index-1].Source
}
