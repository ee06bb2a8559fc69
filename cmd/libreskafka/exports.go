package main

// #include <stdlib.h>
// #define RESK_CONST
// #include "abi/engine.h"
import "C"

import (
	"errors"
	"runtime/debug"
	"sync/atomic"
	"time"
	"unsafe"

	"reskafka/internal/config"
	"reskafka/internal/console"
	"reskafka/internal/engine"
	"reskafka/internal/host"
	"reskafka/internal/kafka/produce"
	"reskafka/internal/memlimit"
)

//export resk_abi
func resk_abi() C.uint32_t { return C.RESK_ABI_VERSION }

//export resk_start
func resk_start(h *C.struct_resk_host, limits *C.struct_resk_limits) (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	if h == nil || limits == nil || h.abi_version != C.RESK_ABI_VERSION || h.size != C.sizeof_struct_resk_host {
		return C.RESK_EINVAL
	}
	run.mtx.Lock()
	defer run.mtx.Unlock()
	if run.engine != nil {
		return C.RESK_ESTATE
	}
	theLog.connect(h)
	memory := memlimit.Read("")
	run.engine = engine.Start(host.System{
		EntityID: optional(h.entity_id), Name: optional(h.system_name),
		Version: optional(h.version), Hostname: optional(h.hostname),
		SpoolDir: optional(h.spool_dir), MemoryBytes: memory.Bytes, MemoryBy: memory.By,
	}, &theLog)
	run.engine.Arrivals(func() { afterInbox(func() {}) })
	run.engine.Carries(governor.Carried)
	run.folder = C.CString(run.engine.StageFolder())
	limits.stage_folder = run.folder
	limits.stage_bytes = C.uint64_t(run.engine.SharedMost())
	limits.inbox = nil
	if box := theInbox(); box != nil {
		limits.inbox = (*C.struct_resk_inbox)(box.Shared())
	}
	for b := range limits.topic_bytes {
		limits.topic_bytes[b] = 0
		if config.TopicByte(byte(b)) {
			limits.topic_bytes[b] = 1
		}
	}
	limits.topic_length_max = config.TopicLengthMax
	limits.record_overhead = produce.RecordOverhead
	limits.header_overhead = produce.HeaderOverhead
	return C.RESK_OK
}

//export resk_stop
func resk_stop(graceMS C.uint32_t) {
	defer theLog.connect(nil)
	defer fence(nil)
	afterInbox(func() {}) // what was put before is still for this engine
	run.mtx.Lock()
	e, folder := run.engine, run.folder
	run.engine, run.folder = nil, nil
	run.mtx.Unlock()
	if e != nil {
		e.Stop(time.Duration(graceMS) * time.Millisecond)
		C.free(unsafe.Pointer(folder))
		giveBack()
	}
}

var givingBack atomic.Bool

// giveBack has the memory that nobody needs any more returned to the system: it may be long until the next start, if there is
// one. Nobody waits for it.
func giveBack() {
	if givingBack.Swap(true) {
		return
	}
	go func() {
		defer givingBack.Store(false)
		debug.FreeOSMemory()
	}()
}

//export resk_configure
func resk_configure(entries *C.struct_resk_entry, count C.size_t) (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	e := running()
	if e == nil {
		return C.RESK_ESTATE
	}
	return status(e.Configure(copyEntries(entries, count)))
}

//export resk_producer_open
func resk_producer_open(name C.struct_resk_text, gate *C.struct_stage_gate, id *C.uint64_t) (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	e := running()
	if e == nil {
		return C.RESK_ESTATE
	}
	number, err := e.OpenProducer(text(name), (*engine.Gate)(unsafe.Pointer(gate)))
	if err == nil {
		*id = C.uint64_t(number)
	}
	return status(err)
}

// afterInbox calls do when what is in the inbox has been taken.
func afterInbox(do func()) {
	if box := theInbox(); box != nil {
		box.Then(do)
	} else {
		do()
	}
}

//export resk_take
func resk_take(id C.uint64_t, frames unsafe.Pointer, length C.size_t, kept C.int32_t) {
	defer fence(nil)
	afterInbox(func() { take(uint64(id), unsafe.Slice((*byte)(frames), int(length)), kept != 0) })
}

//export resk_keep
func resk_keep(id C.uint64_t, frames unsafe.Pointer, length C.size_t, slab unsafe.Pointer) (used C.int32_t) {
	defer fence(nil)
	used = 1 // should there be a panic: then nobody can say what still refers to it
	afterInbox(func() {
		if !keep(uint64(id), unsafe.Slice((*byte)(frames), int(length)), slab) {
			used = 0
		}
	})
	return used
}

//export resk_refused
func resk_refused(id C.uint64_t, reason C.uint32_t, count C.uint64_t, sample C.struct_resk_text) {
	defer fence(nil)
	if e := running(); e != nil {
		e.Refused(uint64(id), engine.Reason(reason), uint64(count), text(sample))
	}
}

//export resk_source_open
func resk_source_open(kind C.struct_resk_text, entries *C.struct_resk_entry, count C.size_t,
	source *C.uint64_t, connection **C.char) (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	e := running()
	if e == nil {
		return C.RESK_ESTATE
	}
	number, name, err := e.OpenSource(text(kind), copyEntries(entries, count), uint64(*source))
	if err != nil {
		return status(err)
	}
	*source, *connection = C.uint64_t(number), C.CString(name)
	return C.RESK_OK
}

// commandTexts are the console's tables as C strings, made once and kept for the life of the library.
var commandTexts = func() []C.struct_resk_command {
	texts := make([]C.struct_resk_command, 0, len(console.Commands))
	for _, c := range console.Commands {
		texts = append(texts, C.struct_resk_command{words: C.CString(c.Words), summary: C.CString(c.Summary), usage: C.CString(c.Usage)})
	}
	return texts
}()

//export resk_command_at
func resk_command_at(index C.uint32_t, command *C.struct_resk_command) (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	if int(index) >= len(commandTexts) {
		return C.RESK_ENOENT
	}
	*command = commandTexts[index]
	return C.RESK_OK
}

//export resk_run
func resk_run(index C.uint32_t, words *C.struct_resk_text, count C.size_t) (printed *C.char) {
	defer fence(func() { printed = C.CString(console.Failure("The engine failed; the log says more.\n")) })
	e := running()
	if e == nil || int(index) >= len(console.Commands) {
		return C.CString(console.Failure("Kafka is not running.\n"))
	}
	out, ok := console.Commands[index].Run(e, copyWords(words, count))
	if !ok {
		return nil
	}
	return C.CString(out)
}

//export resk_complete
func resk_complete(index C.uint32_t, words *C.struct_resk_text, count C.size_t, word C.struct_resk_text, n C.uint32_t) (candidate *C.char) {
	defer fence(func() { candidate = nil })
	e := running()
	if e == nil || int(index) >= len(console.Commands) || console.Commands[index].Complete == nil {
		return nil
	}
	candidates := console.Commands[index].Complete(e, copyWords(words, count), text(word))
	if int(n) >= len(candidates) {
		return nil
	}
	return C.CString(candidates[n])
}

//export resk_free
func resk_free(memory unsafe.Pointer) { C.free(memory) }

//export resk_fault
func resk_fault() (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	var nothing *engine.Engine
	nothing.Stop(0) // a nil pointer: the kind of fault that arrives as a signal
	return C.RESK_OK
}

// copyEntries copies a configuration file's entries.
func copyEntries(entries *C.struct_resk_entry, count C.size_t) []config.Entry {
	copied := make([]config.Entry, 0, int(count))
	for _, e := range unsafe.Slice(entries, int(count)) {
		copied = append(copied, config.Entry{
			File: optional(e.file), Line: int(e.line), Section: optional(e.section),
			Name: optional(e.name), Value: optional(e.value), Inherited: e.inherited != 0,
		})
	}
	return copied
}

// copyWords copies the words of a command line.
func copyWords(words *C.struct_resk_text, count C.size_t) []string {
	copied := make([]string, 0, int(count))
	for _, w := range unsafe.Slice(words, int(count)) {
		copied = append(copied, text(w))
	}
	return copied
}

// status turns the engine's errors into enum resk_result. They have been logged.
func status(err error) C.int32_t {
	switch {
	case err == nil:
		return C.RESK_OK
	case errors.Is(err, engine.ErrNotFound):
		return C.RESK_ENOENT
	case errors.Is(err, engine.ErrDisabled):
		return C.RESK_EDISABLED
	case errors.Is(err, engine.ErrStopped):
		return C.RESK_ESTATE
	default:
		return C.RESK_EINVAL
	}
}
