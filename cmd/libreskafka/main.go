// Package main is libreskafka.so: the exported calls of abi/engine.h, and nothing else. It is the only package that
// imports "C". Every export copies in, calls the engine, copies out; what it does is written in internal/engine.
package main

/*
#cgo CFLAGS: -I${SRCDIR}/../..
#include <stdlib.h>
#define RESK_CONST
#include "abi/engine.h"

static void call_give_back(const struct resk_host *host, void *slab)
{
	host->give_back(slab);
}

static void call_log(const struct resk_host *host, int32_t level, const char *file, int32_t line,
	const char *function, const char *text)
{
	host->log(level, file, line, function, text);
}
*/
import "C"

import (
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"unsafe"

	"reskafka/internal/config"
	"reskafka/internal/engine"
	"reskafka/internal/frame"
	"reskafka/internal/host"
	"reskafka/internal/inbox"
	"reskafka/internal/ingest"
	"reskafka/internal/processors"
)

// The layouts that internal/frame and internal/engine read must be those of the C headers: each pair of lines compiles
// only when both sides are equal.
const (
	_ = uint(frame.HeaderSize - C.sizeof_struct_stage_frame)
	_ = uint(C.sizeof_struct_stage_frame - frame.HeaderSize)
	_ = uint(frame.HeadSize - C.sizeof_struct_resk_frame_head)
	_ = uint(C.sizeof_struct_resk_frame_head - frame.HeadSize)
	_ = uint(frame.FieldSize - C.sizeof_struct_resk_field_head)
	_ = uint(C.sizeof_struct_resk_field_head - frame.FieldSize)
	_ = uint(unsafe.Offsetof(C.struct_stage_frame{}.length) - frame.HeaderLength)
	_ = uint(frame.HeaderLength - unsafe.Offsetof(C.struct_stage_frame{}.length))
	_ = uint(unsafe.Offsetof(C.struct_stage_frame{}.state) - frame.HeaderState)
	_ = uint(frame.HeaderState - unsafe.Offsetof(C.struct_stage_frame{}.state))
	_ = uint(unsafe.Offsetof(C.struct_stage_frame{}.charge) - frame.HeaderCharge)
	_ = uint(frame.HeaderCharge - unsafe.Offsetof(C.struct_stage_frame{}.charge))
	_ = uint(unsafe.Offsetof(C.struct_resk_frame_head{}.source) - frame.HeadSource)
	_ = uint(frame.HeadSource - unsafe.Offsetof(C.struct_resk_frame_head{}.source))
	_ = uint(unsafe.Offsetof(C.struct_resk_frame_head{}.topic_length) - frame.HeadTopicLength)
	_ = uint(frame.HeadTopicLength - unsafe.Offsetof(C.struct_resk_frame_head{}.topic_length))
	_ = uint(unsafe.Offsetof(C.struct_resk_frame_head{}.key_length) - frame.HeadKeyLength)
	_ = uint(frame.HeadKeyLength - unsafe.Offsetof(C.struct_resk_frame_head{}.key_length))
	_ = uint(unsafe.Offsetof(C.struct_resk_frame_head{}.value_length) - frame.HeadValueLength)
	_ = uint(frame.HeadValueLength - unsafe.Offsetof(C.struct_resk_frame_head{}.value_length))
	_ = uint(unsafe.Offsetof(C.struct_resk_frame_head{}.field_count) - frame.HeadFieldCount)
	_ = uint(frame.HeadFieldCount - unsafe.Offsetof(C.struct_resk_frame_head{}.field_count))
	_ = uint(unsafe.Offsetof(C.struct_resk_field_head{}.value_length) - frame.FieldValueLength)
	_ = uint(frame.FieldValueLength - unsafe.Offsetof(C.struct_resk_field_head{}.value_length))
	_ = uint(unsafe.Offsetof(C.struct_resk_field_head{}.kind) - frame.FieldKind)
	_ = uint(frame.FieldKind - unsafe.Offsetof(C.struct_resk_field_head{}.kind))

	_ = uint(unsafe.Sizeof(inbox.Entry{}) - C.sizeof_struct_resk_inbox_entry)
	_ = uint(C.sizeof_struct_resk_inbox_entry - unsafe.Sizeof(inbox.Entry{}))
	_ = uint(unsafe.Sizeof(inbox.Layout{}) - C.sizeof_struct_resk_inbox)
	_ = uint(C.sizeof_struct_resk_inbox - unsafe.Sizeof(inbox.Layout{}))
	_ = uint(unsafe.Offsetof(inbox.Layout{}.Asleep) - unsafe.Offsetof(C.struct_resk_inbox{}.asleep))
	_ = uint(unsafe.Offsetof(C.struct_resk_inbox{}.asleep) - unsafe.Offsetof(inbox.Layout{}.Asleep))
	_ = uint(unsafe.Offsetof(inbox.Layout{}.Ring) - unsafe.Offsetof(C.struct_resk_inbox{}.ring))
	_ = uint(unsafe.Offsetof(C.struct_resk_inbox{}.ring) - unsafe.Offsetof(inbox.Layout{}.Ring))

	_ = uint(frame.SlabHeadSize - C.sizeof_struct_stage_slab)
	_ = uint(C.sizeof_struct_stage_slab - frame.SlabHeadSize)
	_ = uint(unsafe.Offsetof(C.struct_stage_slab{}.layout) - frame.SlabLayout)
	_ = uint(frame.SlabLayout - unsafe.Offsetof(C.struct_stage_slab{}.layout))
	_ = uint(unsafe.Offsetof(C.struct_stage_slab{}.frames) - frame.SlabFrames)
	_ = uint(frame.SlabFrames - unsafe.Offsetof(C.struct_stage_slab{}.frames))
	_ = uint(unsafe.Offsetof(C.struct_stage_slab{}.size) - frame.SlabSize)
	_ = uint(frame.SlabSize - unsafe.Offsetof(C.struct_stage_slab{}.size))
	_ = uint(unsafe.Offsetof(C.struct_stage_slab{}.stage) - frame.SlabStage)
	_ = uint(frame.SlabStage - unsafe.Offsetof(C.struct_stage_slab{}.stage))
	_ = uint(unsafe.Offsetof(C.struct_stage_slab{}.first) - frame.SlabFirst)
	_ = uint(frame.SlabFirst - unsafe.Offsetof(C.struct_stage_slab{}.first))
	_ = uint(unsafe.Offsetof(C.struct_stage_slab{}.whole) - frame.SlabWhole)
	_ = uint(frame.SlabWhole - unsafe.Offsetof(C.struct_stage_slab{}.whole))
	_ = uint(frame.SlabBytes - C.STAGE_SLAB_BYTES)
	_ = uint(C.STAGE_SLAB_BYTES - frame.SlabBytes)
	_ = uint(frame.SlabGranule - C.STAGE_GRANULE)
	_ = uint(C.STAGE_GRANULE - frame.SlabGranule)
	_ = uint(unsafe.Offsetof(C.struct_stage_slab{}.label) - frame.SlabLabel)
	_ = uint(frame.SlabLabel - unsafe.Offsetof(C.struct_stage_slab{}.label))
	_ = uint64(frame.SlabMagic - C.STAGE_SLAB_MAGIC)
	_ = uint64(C.STAGE_SLAB_MAGIC - frame.SlabMagic)
	_ = uint(frame.SlabLayoutNumber - C.STAGE_SLAB_LAYOUT)
	_ = uint(C.STAGE_SLAB_LAYOUT - frame.SlabLayoutNumber)

	_ = uint(frame.Ready - C.STAGE_FRAME_READY)
	_ = uint(C.STAGE_FRAME_READY - frame.Ready)
	_ = uint(frame.Done - C.STAGE_FRAME_DONE)
	_ = uint(C.STAGE_FRAME_DONE - frame.Done)
	_ = uint(frame.Null - C.RESK_NULL)
	_ = uint(C.RESK_NULL - frame.Null)
	_ = uint(frame.KindReport - C.RESK_FIELD_REPORT)
	_ = uint(C.RESK_FIELD_REPORT - frame.KindReport)
	_ = uint(frame.ReportSize - C.sizeof_struct_resk_report_to)
	_ = uint(C.sizeof_struct_resk_report_to - frame.ReportSize)
	_ = uint(engine.BadArgument - C.RESK_REFUSED_ARGUMENT)
	_ = uint(C.RESK_REFUSED_ARGUMENT - engine.BadArgument)
)

// theInbox is made by the first start and stays for the life of the library: then no module can put into one that is gone.
var theInbox = sync.OnceValue(func() *inbox.Inbox {
	box, err := inbox.Open(take)
	if err != nil {
		host.Logf(&theLog, host.Warning, "records will cost more processor time than they need to: %v", err)
	}
	return box
})

// governor has Go use one processor, of those that the environment allows it, unless there is work for more.
var governor = processors.New(runtime.GOMAXPROCS(0), func(n int) { runtime.GOMAXPROCS(n) })

// take hands a slab to the engine that runs.
func take(id uint64, frames []byte, kept bool) {
	defer fence(nil)
	governor.Carried(len(frames))
	if e := running(); e != nil {
		r := ingest.Range{Frames: frames}
		if !kept {
			r.States = func(int) *atomic.Uint32 { return new(atomic.Uint32) }
		}
		e.Take(id, r)
	}
}

// keep is take for a slab that is the host's again when it is given back.
func keep(id uint64, frames []byte, slab unsafe.Pointer) (used bool) {
	governor.Carried(len(frames))
	take(id, frames, false)
	return false
}

// run is the engine between resk_start and resk_stop. The library outlives it: a module that is loaded again starts
// another one.
var run struct {
	mtx    sync.RWMutex
	engine *engine.Engine
	folder *C.char // limits.stage_folder

	producers map[string]uint64 // numbers of producers, by the names of their connections
	numbers   atomic.Uint64     // the latest of the others
}

// producer returns the number of a connection's producer. run.mtx must not be held.
func producer(name string) uint64 {
	run.mtx.Lock()
	defer run.mtx.Unlock()
	key := config.NameKey(name)
	if run.producers == nil {
		run.producers = map[string]uint64{}
	}
	if run.producers[key] == 0 {
		run.producers[key] = uint64(len(run.producers) + 1)
	}
	return run.producers[key]
}

// running gives the engine, or nil.
func running() *engine.Engine {
	run.mtx.RLock()
	defer run.mtx.RUnlock()
	return run.engine
}

// hostLog writes to the host's log while there is a host. Its lock makes resk_stop wait for lines under way, so that
// none is written by a module that is gone.
type hostLog struct {
	mtx  sync.RWMutex
	host *C.struct_resk_host // nil = gone
}

var theLog hostLog

// Log implements host.Logger.
func (l *hostLog) Log(level host.Level, file string, line int, function, text string) {
	l.mtx.RLock()
	defer l.mtx.RUnlock()
	if l.host == nil {
		return
	}
	cFile, cFunction, cText := C.CString(file), C.CString(function), C.CString(strings.ReplaceAll(text, "\n", "; "))
	defer C.free(unsafe.Pointer(cFile))
	defer C.free(unsafe.Pointer(cFunction))
	defer C.free(unsafe.Pointer(cText))
	C.call_log(l.host, C.int32_t(level), cFile, C.int32_t(line), cFunction, cText)
}

// giveBack ends the use of a slab of the host's.
func (l *hostLog) giveBack(slab unsafe.Pointer) {
	l.mtx.RLock()
	defer l.mtx.RUnlock()
	if l.host != nil {
		C.call_give_back(l.host, slab)
	}
}

// connect makes host the one that is logged to; nil = none. The old one is not called any more when it returns.
func (l *hostLog) connect(host *C.struct_resk_host) {
	var copied *C.struct_resk_host
	if host != nil {
		copied = (*C.struct_resk_host)(C.calloc(1, C.sizeof_struct_resk_host))
		*copied = *host
	}
	l.mtx.Lock()
	old := l.host
	l.host = copied
	l.mtx.Unlock()
	C.free(unsafe.Pointer(old))
}

// fence stands first in every export: a panic becomes a line with its stack in the log and ends here.
func fence(recovered func()) {
	if r := recover(); r != nil {
		host.LogPanic(&theLog, "a call from Asterisk", r)
		if recovered != nil {
			recovered()
		}
	}
}

// text copies a borrowed C text; none is the empty text.
func text(t C.struct_resk_text) string {
	if t.data == nil {
		return ""
	}
	return C.GoStringN(t.data, C.int(t.length))
}

// optional copies a borrowed C string that may be NULL.
func optional(s *C.char) string {
	if s == nil {
		return ""
	}
	return C.GoString(s)
}

func main() {}
