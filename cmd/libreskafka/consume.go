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

	"reskafka/internal/kafka"
)

// delivery is the memory that a subscription's thread shares with its consumer, a kafka.Progress. It is freed when the
// consumer has been collected, which may ask it to the last, and the thread has said that it is done (deliveries).
type delivery struct{ shared *C.struct_resk_delivery }

func newDelivery() *delivery {
	d := &delivery{(*C.struct_resk_delivery)(C.calloc(1, C.sizeof_struct_resk_delivery))}
	runtime.AddCleanup(d, func(shared *C.struct_resk_delivery) { C.free(unsafe.Pointer(shared)) }, d.shared)
	return d
}

// Delivered implements kafka.Progress.
func (d *delivery) Delivered() uint64 {
	defer runtime.KeepAlive(d)
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&d.shared.delivered)))
}

// Hurry implements kafka.Progress.
func (d *delivery) Hurry(set bool) {
	var hurry uint64
	if set {
		hurry = 1
	}
	atomic.StoreUint64((*uint64)(unsafe.Pointer(&d.shared.hurry)), hurry)
	runtime.KeepAlive(d)
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
	messages, ok := e.Next(uint64(id))
	if !ok {
		return nil
	}
	return newBatch(messages)
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
	deliveries.Delete(uint64(id))
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

// newBatch copies messages into one block of C memory: the batch, its headers, and then the bytes.
func newBatch(messages []kafka.Message) *C.struct_resk_batch {
	headers, size := 0, 0
	for i := range messages {
		m := &messages[i]
		headers += len(m.Headers)
		size += len(m.Topic) + 1 + len(m.Key) + 1 + len(m.Value) + 1
		for _, h := range m.Headers {
			size += len(h.Name) + 1 + len(h.Value) + 1
		}
	}
	governor.Carried(size)
	fixed := C.sizeof_struct_resk_batch + len(messages)*C.sizeof_struct_resk_message + headers*C.sizeof_struct_resk_message_header
	block := C.malloc(C.size_t(fixed + size))
	// The collector must not take what was there before for pointers of Go when pointers are stored over it.
	C.memset(block, 0, C.size_t(fixed))
	batch := (*C.struct_resk_batch)(block)
	batch.count = C.size_t(len(messages))
	first := unsafe.Add(block, C.sizeof_struct_resk_batch)
	out := unsafe.Slice((*C.struct_resk_message)(first), len(messages))
	heads := unsafe.Slice((*C.struct_resk_message_header)(unsafe.Add(first, len(messages)*C.sizeof_struct_resk_message)), headers)
	w := writer{unsafe.Slice((*byte)(unsafe.Add(block, fixed)), size)}
	for i := range messages {
		m := &messages[i]
		out[i] = C.struct_resk_message{
			topic: (*C.char)(w.text(m.Topic)), partition: C.int32_t(m.Partition), offset: C.int64_t(m.Offset),
			timestamp_ms: C.int64_t(m.Timestamp.UnixMilli()),
			key:          w.bytes(m.Key), key_length: C.size_t(len(m.Key)),
			value: w.bytes(m.Value), value_length: C.size_t(len(m.Value)),
			header_count: C.size_t(len(m.Headers)),
		}
		if len(m.Headers) > 0 {
			out[i].headers = &heads[0]
		}
		for j, h := range m.Headers {
			heads[j] = C.struct_resk_message_header{
				name: (*C.char)(w.text(h.Name)), value: w.bytes(h.Value), value_length: C.size_t(len(h.Value)),
			}
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
