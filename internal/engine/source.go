package engine

import (
	"math"
	"slices"

	"reskafka/internal/config"
	"reskafka/internal/event"
	"reskafka/internal/host"
)

// OpenSource reads an event source's configuration file, for the first time when number is 0, else in the place of
// the source of that number. It gives the number and the name of the connection to publish on, as kafka.conf has it. When it fails, all
// problems have been logged and the source that was there before is still in force. Errors: ErrNotFound (no such kind,
// no such number), ErrInvalid; ErrStopped, which is not logged.
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
		if number == 0 { // the module declines to load, whatever becomes of kafka.conf
			why += "; once it is mended, module load " + known.Module + ".so"
		}
		host.Logf(e.log, host.Error, "%s: connection = %s: %s", known.File, source.Connection(), why)
		return 0, "", ErrInvalid
	}
	if err := c.open(); err != nil { // before anything is changed: the module asks for its producer next
		host.Logf(e.log, host.Error, "%s: connection = %s: %v", known.File, source.Connection(), err)
		return 0, "", ErrInvalid
	}
	list := slices.Clone(*e.sources.Load())
	opened, index := openSource{source, known.Number}, number&math.MaxUint32
	switch {
	case number == 0:
		list = append(list, opened)
		number = uint64(known.Number)<<32 | uint64(len(list))
	case index == 0 || index > uint64(len(list)):
		host.Logf(e.log, host.Error, "there is no event source number %d of kind '%s' to reload", index, kind)
		return 0, "", ErrNotFound
	default:
		list[index-1] = opened
	}
	e.sources.Store(&list)
	c.attach()
	c.setGate()
	e.adopt()
	e.createLater(c, source)
	return number, c.name, nil
}

// source finds an open event source by its number.
func (e *Engine) source(number uint64) event.Source {
	list := *e.sources.Load()
	index := number & math.MaxUint32
	if index == 0 || index > uint64(len(list)) {
		return nil
	}
	return list[index-1].Source
}
