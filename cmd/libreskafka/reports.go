package main

// #include <stdlib.h>
// #include <string.h>
// #define RESK_CONST
// #include "abi/engine.h"
import "C"

import (
	"sync"
	"unsafe"

	"reskafka/internal/engine"
	"reskafka/internal/host"
)

// mostReports is how many reports one call of resk_reports_next gives: enough that the call costs a report next to
// nothing.
const mostReports = 1000

// reports are the queues by their number. They outlive the engine's run: what Stop leaves in them is taken out after it.
var reports sync.Map

//export resk_reports_open
func resk_reports_open(id *C.uint64_t) (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	e := running()
	if e == nil {
		return C.RESK_ESTATE
	}
	r, err := e.OpenReports(run.numbers.Add(1))
	if err == nil {
		*id = C.uint64_t(r.ID)
		reports.Store(r.ID, r)
	}
	return status(err)
}

//export resk_reports_next
func resk_reports_next(id C.uint64_t) (batch *C.struct_resk_report_batch) {
	defer fence(func() { batch = nil })
	r, ok := reports.Load(uint64(id))
	if !ok {
		return nil
	}
	next, ok := r.(*engine.Reports).Next(mostReports)
	if !ok {
		return nil
	}
	return newReportBatch(next)
}

//export resk_reports_close
func resk_reports_close(id C.uint64_t) {
	defer fence(nil)
	if r, ok := reports.LoadAndDelete(uint64(id)); ok {
		r.(*engine.Reports).Close()
	}
}

// newReportBatch copies reports into one block of C memory: the batch and then the texts.
func newReportBatch(list []engine.Report) *C.struct_resk_report_batch {
	size, errors := 0, make([]string, len(list))
	for i := range list {
		if list[i].Err != nil {
			errors[i] = host.Printable(list[i].Err.Error())
		}
		size += len(list[i].Topic) + 1 + len(errors[i]) + 1
	}
	fixed := C.sizeof_struct_resk_report_batch + len(list)*C.sizeof_struct_resk_report
	block := C.malloc(C.size_t(fixed + size))
	// The collector must not take what was there before for pointers of Go when pointers are stored over it.
	C.memset(block, 0, C.size_t(fixed))
	batch := (*C.struct_resk_report_batch)(block)
	batch.count = C.size_t(len(list))
	out := unsafe.Slice((*C.struct_resk_report)(unsafe.Add(block, C.sizeof_struct_resk_report_batch)), len(list))
	w := writer{unsafe.Slice((*byte)(unsafe.Add(block, fixed)), size)}
	for i := range list {
		r := &list[i]
		out[i] = C.struct_resk_report{
			opaque: C.uint64_t(r.Opaque), topic: (*C.char)(w.text(r.Topic)),
			partition: C.int32_t(r.Partition), offset: C.int64_t(r.Offset),
		}
		if r.Err != nil {
			out[i].error = (*C.char)(w.text(errors[i]))
		}
	}
	return batch
}
