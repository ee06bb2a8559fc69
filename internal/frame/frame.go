// Package frame reads what callers left in the stage: slabs of frames as stage/stage.h and abi/engine.h lay them out.
//
// The sizes and offsets below stand there a second time; cmd/libreskafka does not compile when the two differ.
package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Layout of struct stage_frame, struct resk_frame_head and struct resk_field_head: their sizes and the offsets of
// their members.
const (
	HeaderSize   = 16
	HeaderLength = 4
	HeaderState  = 8
	HeaderCharge = 12

	HeadSize        = 32
	HeadSource      = 8
	HeadTopicLength = 16
	HeadKeyLength   = 20
	HeadValueLength = 24
	HeadFieldCount  = 28

	FieldSize        = 12
	FieldValueLength = 4
	FieldKind        = 8

	// Ready and Done are STAGE_FRAME_READY and STAGE_FRAME_DONE.
	Ready = 0x52454459
	Done  = 0x444f4e45
	// Null is RESK_NULL: a length that says "none".
	Null = math.MaxUint32
)

// A Frame is one record or event. Its slices point into the slab; nil is null, empty is empty.
type Frame struct {
	AcceptedNS int64 // when the caller's call accepted it, nanoseconds since 1970
	Source     uint64
	Topic      []byte
	Key        []byte
	Value      []byte
	Charge     uint32
	At         int // where its header begins in what was walked

	fieldCount int
	fields     []byte
}

// KindReport is RESK_FIELD_REPORT: a field of a record that is no header, but says who wants to know its outcome.
const KindReport = 4

// ReportSize is the size of its value, struct resk_report_to: the number of the queue of reports and the caller's own
// number, 8 bytes each.
const ReportSize = 16

// Field is one header of a record or one field of an event.
type Field struct {
	Name  []byte
	Value []byte
	Kind  uint32
}

var errShort = errors.New("a length runs past the end of the frame")

// Walk calls visit for each frame of a slab in order, and damaged for one whose content cannot be read, of which only
// Charge and At are known. It stops with an error where it cannot tell where the next frame begins.
func Walk(slab []byte, visit func(f *Frame), damaged func(f *Frame, err error)) error {
	var f Frame
	wanted := func(state uint32) (bool, error) {
		if state != Ready {
			return false, errors.New("its writer has not finished")
		}
		return true, nil
	}
	for at := 0; at < len(slab); {
		size, err := f.read(slab, at, wanted, visit, damaged)
		if err != nil {
			return err
		}
		at += size
	}
	return nil
}

// Plain is a slab that holds nothing but records of one topic, without headers or reports.
type Plain struct {
	Topic   []byte
	Records int
	Bytes   int64 // of their keys and values
}

// ReadPlain says whether a slab is a plain one. Of every such slab Next reads each frame.
func ReadPlain(slab []byte) (p Plain, ok bool) {
	ok = true
	err := Walk(slab, func(f *Frame) {
		if p.Records == 0 {
			p.Topic = f.Topic
		}
		p.Records++
		p.Bytes += int64(len(f.Key) + len(f.Value))
		ok = ok && f.Source == 0 && f.fieldCount == 0 && bytes.Equal(f.Topic, p.Topic)
	}, func(*Frame, error) { ok = false })
	return p, ok && err == nil && p.Records > 0
}

// Next reads the frame at byte at of a plain slab and says where the next one begins.
func (f *Frame) Next(slab []byte, at int) (next int) {
	header := slab[at:]
	f.Charge, f.At = binary.NativeEndian.Uint32(header[HeaderCharge:]), at
	_ = f.parse(header[HeaderSize:][:number(header[HeaderLength:])]) // ReadPlain has
	return at + int(number(header))
}

// read visits the frame at byte at, if wanted says yes to it by its state, and says how long it is.
func (f *Frame) read(slab []byte, at int, wanted func(state uint32) (bool, error), visit func(*Frame), damaged func(*Frame, error)) (int, error) {
	if len(slab)-at < HeaderSize {
		return 0, fmt.Errorf("reading a frame header at byte %d of %d: %w", at, len(slab), errShort)
	}
	header := slab[at:]
	size, length := number(header), number(header[HeaderLength:])
	if size < HeaderSize || size > uint64(len(header)) || size%8 != 0 {
		return 0, fmt.Errorf("reading a frame of %d bytes at byte %d of %d: %w", size, at, len(slab), errShort)
	}
	take, err := wanted(binary.NativeEndian.Uint32(header[HeaderState:]))
	if err != nil {
		return 0, fmt.Errorf("reading a frame at byte %d: %w", at, err)
	}
	if take && length > size-HeaderSize {
		return 0, fmt.Errorf("reading a frame of %d bytes with %d of content at byte %d: %w", size, length, at, errShort)
	}
	if take {
		f.Charge, f.At = binary.NativeEndian.Uint32(header[HeaderCharge:]), at
		if err := f.parse(header[HeaderSize:][:length]); err != nil {
			damaged(f, fmt.Errorf("reading a frame at byte %d: %w", at, err))
		} else {
			visit(f)
		}
	}
	return int(size), nil
}

// parse reads the content of one frame.
func (f *Frame) parse(content []byte) error {
	if len(content) < HeadSize {
		return errShort
	}
	f.AcceptedNS = int64(binary.NativeEndian.Uint64(content))
	f.Source = binary.NativeEndian.Uint64(content[HeadSource:])
	f.fieldCount = int(number(content[HeadFieldCount:]))
	rest := content[HeadSize:]
	ok := [3]bool{}
	f.Topic, rest, ok[0] = cut(rest, number(content[HeadTopicLength:]))
	f.Key, rest, ok[1] = cut(rest, number(content[HeadKeyLength:]))
	f.Value, rest, ok[2] = cut(rest, number(content[HeadValueLength:]))
	f.fields = rest
	if !ok[0] || !ok[1] || !ok[2] || f.fieldCount > len(rest)/FieldSize {
		return errShort
	}
	return nil
}

// FieldCount is the number of headers or fields.
func (f *Frame) FieldCount() int { return f.fieldCount }

// EachField calls visit for each header or field in order.
func (f *Frame) EachField(visit func(Field)) error {
	rest := f.fields
	for range f.fieldCount {
		if len(rest) < FieldSize {
			return errShort
		}
		head := rest
		field := Field{Kind: binary.NativeEndian.Uint32(head[FieldKind:])}
		var ok, alsoOK bool
		field.Name, rest, ok = cut(rest[FieldSize:], number(head))
		field.Value, rest, alsoOK = cut(rest, number(head[FieldValueLength:]))
		if !ok || !alsoOK {
			return errShort
		}
		visit(field)
	}
	return nil
}

func number(b []byte) uint64 { return uint64(binary.NativeEndian.Uint32(b)) }

// cut takes length bytes off the front. The result's capacity ends with it, so that appending to it cannot reach what
// follows.
func cut(b []byte, length uint64) (taken, rest []byte, ok bool) {
	if length == Null {
		return nil, b, true
	}
	if length > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:length:length], b[length:], true
}
