// Package frame reads slabs of frames, in the layout of boundary/shared.h and boundary/frame.h.
//
// Another process may write to the memory at any time: every number is read once and then checked.
// internal/ingest has the test that compares the sizes and offsets below with the C headers.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Layout of struct stage_frame (boundary/shared.h), and of struct resk_frame_head and struct resk_field_head
// (boundary/frame.h): sizes, and offsets of members.
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

	// Ready, Done and Stored are STAGE_FRAME_READY, STAGE_FRAME_DONE and STAGE_FRAME_STORED.
	Ready  = 0x52454459
	Done   = 0x444f4e45
	Stored = 0x53544f52
	// Null is RESK_NULL: the length of a null text.
	Null = math.MaxUint32
)

// A Frame is a record or an event. Its slices point into the slab's memory. A nil slice is null, an empty
// slice is empty.
//
// Another process may write to the memory at any time. Every number is therefore read once, into memory of
// this process, and then checked. The bytes of the slices may still change: a reader copies a slice before a
// second read, see Own.
type Frame struct {
	AcceptedNS int64 // time of acceptance in the caller, nanoseconds since 1970
	Source     uint64
	Topic      []byte
	Key        []byte
	Value      []byte
	Charge     uint32
	Stored     bool // an earlier engine has the record on disk
	At         int  // offset of the header in the slab's memory
	End        int  // offset of the byte behind the frame

	fieldCount int
	fields     []byte
	content    []byte
}

// KindReport is RESK_FIELD_REPORT: a field with the receiver of the record's outcome, not a header.
const KindReport = 4

// ReportSize is the size of a report field's value, struct resk_report_to: the number of the report queue and
// the caller's ticket, 8 bytes each.
const ReportSize = 16

// Field is a header of a record or a field of an event.
type Field struct {
	Name  []byte
	Value []byte
	Kind  uint32
}

var (
	errShort      = errors.New("a length runs past the end of the frame")
	errUnfinished = errors.New("its state is none of a complete frame")
)

// Walk calls visit for each ready or stored frame in frames, which are contiguous, and damaged for a frame with
// unreadable content or an unknown state. Of a damaged frame only Charge, At and End are set. Walk skips finished
// frames. Walk returns an error if the start of the next frame is unknown.
func Walk(frames []byte, visit func(f *Frame), damaged func(f *Frame, err error)) error {
	var f Frame
	for at := 0; at < len(frames); {
		h, err := readHeader(frames, at)
		if err != nil {
			return err
		}
		switch h.state {
		case Ready, Stored:
			f.Stored = h.state == Stored
			f.read(frames, at, h, visit, damaged)
		case Done:
		default:
			f = Frame{Charge: h.charge, At: at, End: at + h.size}
			damaged(&f, fmt.Errorf("reading a frame at byte %d: %w", at, errUnfinished))
		}
		at += h.size
	}
	return nil
}

// Load reads the frame at byte at of frames, and returns its state. End = 0 afterwards: the start of the next
// frame is not known, as after an error of Walk. Another error is that of a damaged frame.
func (f *Frame) Load(frames []byte, at int) (state uint32, err error) {
	f.End = 0
	h, err := readHeader(frames, at)
	if err != nil {
		return 0, err
	}
	f.Charge, f.At, f.End = h.charge, at, at+h.size
	return h.state, f.load(frames[at+HeaderSize:f.End:f.End], h.length)
}

// load is parse for content of a length that was not checked, in the frame's place.
func (f *Frame) load(place []byte, length uint64) error {
	if length > uint64(len(place)) {
		return errShort
	}
	return f.parse(place[:length:length])
}

// header is a copy of struct stage_frame.
type header struct {
	size          int
	length        uint64
	state, charge uint32
}

// readHeader reads the header at byte at. The frame's size lies within memory.
func readHeader(memory []byte, at int) (header, error) {
	if len(memory)-at < HeaderSize {
		return header{}, fmt.Errorf("reading a frame header at byte %d of %d: %w", at, len(memory), errShort)
	}
	var b [HeaderSize]byte
	copy(b[:], memory[at:])
	size := number(b[:])
	if size < HeaderSize || size > uint64(len(memory)-at) || size%SlabGranule != 0 {
		return header{}, fmt.Errorf("reading a frame of %d bytes at byte %d of %d: %w", size, at, len(memory), errShort)
	}
	return header{int(size), number(b[HeaderLength:]), binary.NativeEndian.Uint32(b[HeaderState:]), binary.NativeEndian.Uint32(b[HeaderCharge:])}, nil
}

// read calls visit or damaged for the frame of header h at byte at.
func (f *Frame) read(memory []byte, at int, h header, visit func(*Frame), damaged func(*Frame, error)) {
	f.Charge, f.At, f.End = h.charge, at, at+h.size
	if err := f.load(memory[at+HeaderSize:f.End:f.End], h.length); err != nil {
		damaged(f, fmt.Errorf("reading a frame of %d bytes with %d of content at byte %d: %w", h.size, h.length, at, err))
	} else {
		visit(f)
	}
}

// parse reads the frame's content.
func (f *Frame) parse(content []byte) error {
	if len(content) < HeadSize {
		return errShort
	}
	var head [HeadSize]byte
	copy(head[:], content)
	f.content = content
	f.AcceptedNS = int64(binary.NativeEndian.Uint64(head[:]))
	f.Source = binary.NativeEndian.Uint64(head[HeadSource:])
	f.fieldCount = int(number(head[HeadFieldCount:]))
	rest := content[HeadSize:]
	ok := [3]bool{}
	f.Topic, rest, ok[0] = cut(rest, number(head[HeadTopicLength:]))
	f.Key, rest, ok[1] = cut(rest, number(head[HeadKeyLength:]))
	f.Value, rest, ok[2] = cut(rest, number(head[HeadValueLength:]))
	f.fields = rest
	if !ok[0] || !ok[1] || !ok[2] || f.fieldCount > len(rest)/FieldSize {
		return errShort
	}
	return nil
}

// Own copies the frame's content to buffer and points all slices of the frame there, out of reach of other
// processes. Charge and At stay. Own returns the grown buffer.
func (f *Frame) Own(buffer []byte) ([]byte, error) {
	buffer = append(buffer[:0], f.content...)
	return buffer, f.parse(buffer)
}

// FieldCount returns the number of headers or fields.
func (f *Frame) FieldCount() int { return f.fieldCount }

// EachField calls visit for each header or field in order.
func (f *Frame) EachField(visit func(Field)) error {
	rest := f.fields
	for range f.fieldCount {
		if len(rest) < FieldSize {
			return errShort
		}
		var head [FieldSize]byte
		copy(head[:], rest)
		field := Field{Kind: binary.NativeEndian.Uint32(head[FieldKind:])}
		var ok, alsoOK bool
		field.Name, rest, ok = cut(rest[FieldSize:], number(head[:]))
		field.Value, rest, alsoOK = cut(rest, number(head[FieldValueLength:]))
		if !ok || !alsoOK {
			return errShort
		}
		visit(field)
	}
	return nil
}

func number(b []byte) uint64 { return uint64(binary.NativeEndian.Uint32(b)) }

// cut returns the first length bytes and the rest. The capacity of taken is its length, so an append to taken
// never overwrites rest.
func cut(b []byte, length uint64) (taken, rest []byte, ok bool) {
	if length == Null {
		return nil, b, true
	}
	if length > uint64(len(b)) {
		return nil, nil, false
	}
	return b[:length:length], b[length:], true
}
