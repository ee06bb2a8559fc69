package main

// #include <stdlib.h>
// #include <string.h>
// #define RESK_CONST
// #include "abi/engine.h"
import "C"

import (
	"runtime"
	"sync"
	"sync/atomic"
	"unsafe"

	"reskafka/internal/kafka/consume"
)

// delivery is the memory that a subscription's thread shares with its consumer, a consume.Progress. It is freed when the
// consumer has been collected, which may ask it to the last, and the thread has said that it is done (deliveries).
type delivery struct {
	shared *C.struct_resk_delivery

	// The block that the present batch is in, kept for the next: an allocation of this size would be given back to the
	// kernel each time, and its pages be faulted in again. Only the thread's calls use it.
	block unsafe.Pointer
	room  int
}

func newDelivery() *delivery {
	d := &delivery{shared: (*C.struct_resk_delivery)(C.calloc(1, C.sizeof_struct_resk_delivery))}
	runtime.AddCleanup(d, func(shared *C.struct_resk_delivery) { C.free(unsafe.Pointer(shared)) }, d.shared)
	return d
}

// Delivered implements consume.Progress.
func (d *delivery) Delivered() uint64 {
	defer runtime.KeepAlive(d)
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&d.shared.delivered)))
}

// Hurry implements consume.Progress.
func (d *delivery) Hurry(set bool) {
	var hurry uint64
	if set {
		hurry = 1
	}
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&d.shared.hurry)), hurry)
	runtime.KeepAlive(d)
}

// space gives a block of at least so many bytes; what was in the one before is gone.
func (d *delivery) space(bytes int) unsafe.Pointer {
	const little = 64 << 10 // of which it is not worth giving anything back
	if bytes > d.room || bytes < d.room/8 && d.room > little {
		C.free(d.block)
		d.room = max(bytes+bytes/8, 4<<10) // the next batch may be a bit larger
		d.block = C.malloc(C.size_t(d.room))
	}
	return d.block
}

// end frees the block.
func (d *delivery) end() {
	C.free(d.block)
	d.block, d.room = nil, 0
}

// deliveries keeps what threads still use, by the number of the subscription.
var deliveries sync.Map

//export resk_consumer_check
func resk_consumer_check(name C.struct_resk_text) (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	e := running()
	if e == nil {
		return C.RESK_ESTATE
	}
	return status(e.CheckConsumer(text(name)))
}

//export resk_subscribe
func resk_subscribe(name, topics C.struct_resk_text, shared **C.struct_resk_delivery, id *C.uint64_t) (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	e := running()
	if e == nil {
		return C.RESK_ESTATE
	}
	d := newDelivery()
	number, err := e.Subscribe(text(name), text(topics), d)
	if err == nil {
		deliveries.Store(number, d)
		*shared, *id = d.shared, C.uint64_t(number)
	}
	return status(err)
}

//export resk_next
func resk_next(id C.uint64_t) (batch *C.struct_resk_batch) {
	defer fence(func() { batch = nil })
	e := running()
	if e == nil {
		return nil
	}
	d, ok := deliveries.Load(uint64(id))
	if !ok {
		return nil
	}
	messages, ok := e.Next(uint64(id))
	if !ok {
		return nil
	}
	return newBatch(messages, d.(*delivery))
}

//export resk_unsubscribe
func resk_unsubscribe(id C.uint64_t) {
	defer fence(nil)
	if e := running(); e != nil {
		e.Unsubscribe(uint64(id))
	}
}

//export resk_subscription_free
func resk_subscription_free(id C.uint64_t) {
	defer fence(nil)
	if e := running(); e != nil {
		e.FreeSubscription(uint64(id))
	}
	if d, ok := deliveries.LoadAndDelete(uint64(id)); ok {
		d.(*delivery).end()
	}
}

//export resk_commit
func resk_commit(id C.uint64_t, current C.int32_t) (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	e := running()
	if e == nil {
		return C.RESK_ESTATE
	}
	return status(e.Commit(uint64(id), current != 0))
}

//export resk_pause
func resk_pause(id C.uint64_t, topics C.struct_resk_text, on C.int32_t) (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	e := running()
	if e == nil {
		return C.RESK_ESTATE
	}
	return status(e.Pause(uint64(id), text(topics), on != 0))
}

//export resk_ensure_topic
func resk_ensure_topic(name, topic C.struct_resk_text, partitions, replication, wait C.int32_t) (result C.int32_t) {
	defer fence(func() { result = C.RESK_PANIC })
	e := running()
	if e == nil {
		return C.RESK_ESTATE
	}
	return status(e.EnsureTopic(text(name), text(topic), int(partitions), int(replication), wait != 0))
}

// message and header are struct resk_message and struct resk_message_header with addresses in C's memory instead of pointers, which
// the collector would watch being stored.
type message struct {
	topic       uintptr
	partition   int32
	offset      int64
	timestamp   int64
	key         uintptr
	keyLength   int
	value       uintptr
	valueLength int
	headers     uintptr
	headerCount int
}

type header struct {
	name        uintptr
	value       uintptr
	valueLength int
}

// The compiler compares the twins.
var (
	_ = [1]int{}[unsafe.Sizeof(message{})-C.sizeof_struct_resk_message]
	_ = [1]int{}[unsafe.Offsetof(message{}.offset)-unsafe.Offsetof(C.struct_resk_message{}.offset)]
	_ = [1]int{}[unsafe.Offsetof(message{}.timestamp)-unsafe.Offsetof(C.struct_resk_message{}.timestamp_ms)]
	_ = [1]int{}[unsafe.Offsetof(message{}.key)-unsafe.Offsetof(C.struct_resk_message{}.key)]
	_ = [1]int{}[unsafe.Offsetof(message{}.value)-unsafe.Offsetof(C.struct_resk_message{}.value)]
	_ = [1]int{}[unsafe.Offsetof(message{}.headers)-unsafe.Offsetof(C.struct_resk_message{}.headers)]
	_ = [1]int{}[unsafe.Offsetof(message{}.headerCount)-unsafe.Offsetof(C.struct_resk_message{}.header_count)]
	_ = [1]int{}[unsafe.Sizeof(header{})-C.sizeof_struct_resk_message_header]
	_ = [1]int{}[unsafe.Offsetof(header{}.valueLength)-unsafe.Offsetof(C.struct_resk_message_header{}.value_length)]
)

// newBatch copies messages into the delivery's block: the batch, its messages, their headers, and then the bytes.
func newBatch(messages *consume.Batch, d *delivery) *C.struct_resk_batch {
	count := messages.Len()
	headers, topics, bytes := messages.Size()
	size := bytes + topics + messages.Runs() + 2*count + 2*headers // with a NUL behind each
	governor.Carried(size)
	fixed := C.sizeof_struct_resk_batch + count*C.sizeof_struct_resk_message + headers*C.sizeof_struct_resk_message_header
	block := d.space(fixed + size)
	batch := (*C.struct_resk_batch)(block)
	batch.count = C.size_t(count)
	first := unsafe.Add(block, C.sizeof_struct_resk_batch)
	out := unsafe.Slice((*message)(first), count)
	heads := unsafe.Slice((*header)(unsafe.Add(first, count*C.sizeof_struct_resk_message)), headers)
	w := writer{unsafe.Slice((*byte)(unsafe.Add(block, fixed)), size)}
	var topic uintptr
	i := 0
	for m, begins := range messages.All() {
		if begins {
			topic = uintptr(w.text(m.Topic))
		}
		o := &out[i]
		i++
		o.topic, o.partition, o.offset, o.timestamp = topic, m.Partition, m.Offset, m.UnixMilli()
		o.key, o.keyLength = uintptr(w.bytes(m.Key)), len(m.Key)
		o.value, o.valueLength = uintptr(w.bytes(m.Value)), len(m.Value)
		o.headers, o.headerCount = 0, len(m.Headers)
		if len(m.Headers) > 0 {
			o.headers = uintptr(unsafe.Pointer(&heads[0]))
		}
		for j, h := range m.Headers {
			heads[j] = header{name: uintptr(w.text(h.Name)), value: uintptr(w.bytes(h.Value)), valueLength: len(h.Value)}
		}
		heads = heads[len(m.Headers):]
	}
	return batch
}

// writer puts bytes one behind the other, each with a NUL behind it for callers that take them for text.
type writer struct{ rest []byte }

// bytes keeps null and empty apart: the first is a NULL pointer.
func (w *writer) bytes(b []byte) unsafe.Pointer {
	if b == nil {
		return nil
	}
	return w.text(unsafe.String(unsafe.SliceData(b), len(b)))
}

func (w *writer) text(s string) unsafe.Pointer {
	at := unsafe.Pointer(unsafe.SliceData(w.rest))
	n := copy(w.rest, s)
	w.rest[n] = 0
	w.rest = w.rest[n+1:]
	return at
}
