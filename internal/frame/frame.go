// Package frame reads what callers left in the stage: slabs of frames as boundary/shared.h and boundary/frame.h lay them out.
//
// Another process may write to that memory at any time: every number is read once and then checked. internal/ingest has the
// test that compares the sizes and offsets below with the C headers.
package frame

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math"
)

// Layout of struct stage_frame (boundary/shared.h), and of struct resk_frame_head and struct resk_field_head (boundary/frame.h):
// their sizes and the offsets of their members.
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
	// Null is RESK_NULL: the length of a text that is none.
	Null = math.MaxUint32
)

// A Frame is one record or event. Its slices point into the memory that was read; nil is null, empty is empty.
//
// Another process may write to that memory at any time. Therefore every number is read once, into memory of this process,
// and checked there. The bytes that the slices lead to may still change: a reader copies them before it looks at them
// twice, see Own.
type Frame struct {
	AcceptedNS int64 // when the caller's call accepted it, nanoseconds since 1970
	Source     uint64
	Topic      []byte
	Key        []byte
	Value      []byte
	Charge     uint32
	At         int // where its header begins in the memory that was read

	fieldCount int
	fields     []byte
	content    []byte
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

var (
	errShort      = errors.New("a length runs past the end of the frame")
	errUnfinished = errors.New("its writer has not finished")
)

// Walk calls visit for each frame that is ready in frames, which lie back to back, and damaged for one whose content cannot
// be read, of which only Charge and At are known. It skips frames that are done. It returns an error where it cannot tell
// where the next frame begins.
func Walk(frames []byte, visit func(f *Frame), damaged func(f *Frame, err error)) error {
	var f Frame
	for at := 0; at < len(frames); {
		h, err := readHeader(frames, at)
		if err != nil {
			return err
		}
		switch h.state {
		case Ready:
			if err := f.read(frames, at, h, visit, damaged); err != nil {
				return err
			}
		case Done:
		default:
			return fmt.Errorf("reading a frame at byte %d: %w", at, errUnfinished)
		}
		at += h.size
	}
	return nil
}

// header is what struct stage_frame says, read once.
type header struct {
	size          int
	length        uint64
	state, charge uint32
}

// readHeader reads the header at byte at. Its size lies within memory.
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
func (f *Frame) read(memory []byte, at int, h header, visit func(*Frame), damaged func(*Frame, error)) error {
	if h.length > uint64(h.size-HeaderSize) {
		return fmt.Errorf("reading a frame of %d bytes with %d of content at byte %d: %w", h.size, h.length, at, errShort)
	}
	f.Charge, f.At = h.charge, at
	if err := f.parse(memory[at+HeaderSize:][:h.length:h.length]); err != nil {
		damaged(f, fmt.Errorf("reading a frame at byte %d: %w", at, err))
	} else {
		visit(f)
	}
	return nil
}

// parse reads the content of one frame.
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

// Own copies the frame's content to buffer, which it returns grown, and has all slices of the frame point there: nobody else
// can change them any more. Charge and At stay.
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
