// Package frametest builds slabs of frames in the layout of the modules, for tests.
package frametest

import (
	"encoding/binary"

	"reskafka/internal/frame"
)

// Frame is a caller's frame in the stage. Nil is null and empty is empty, for Key, Value and the values of
// fields.
type Frame struct {
	AcceptedNS int64 // nanoseconds since 1970
	Source     uint64
	Topic      string
	Key        []byte
	Value      []byte
	Fields     []frame.Field
	Charge     uint32
}

// Text is a field of text, or a record's header.
func Text(name, value string) frame.Field {
	return frame.Field{Name: []byte(name), Value: []byte(value)}
}

// Integer is a field with a number.
func Integer(name string, value int64) frame.Field {
	return frame.Field{Name: []byte(name), Kind: 1, Value: binary.NativeEndian.AppendUint64(nil, uint64(value))}
}

// Time is a field with a time, seconds and microseconds since 1970.
func Time(name string, seconds, micros int64) frame.Field {
	value := binary.NativeEndian.AppendUint64(nil, uint64(seconds))
	return frame.Field{Name: []byte(name), Kind: 2, Value: binary.NativeEndian.AppendUint64(value, uint64(micros))}
}

// Variable returns a text field with a name of the user's choice.
func Variable(name, value string) frame.Field {
	return frame.Field{Name: []byte(name), Kind: 3, Value: []byte(value)}
}

// Append adds a frame to a slab.
func Append(slab []byte, f Frame) []byte {
	start := len(slab)
	slab = append(slab, make([]byte, frame.HeaderSize)...)
	slab = binary.NativeEndian.AppendUint64(slab, uint64(f.AcceptedNS))
	slab = binary.NativeEndian.AppendUint64(slab, f.Source)
	for _, n := range []uint32{uint32(len(f.Topic)), length(f.Key), length(f.Value), uint32(len(f.Fields))} {
		slab = binary.NativeEndian.AppendUint32(slab, n)
	}
	slab = append(append(append(slab, f.Topic...), f.Key...), f.Value...)
	for _, field := range f.Fields {
		for _, n := range []uint32{uint32(len(field.Name)), length(field.Value), field.Kind} {
			slab = binary.NativeEndian.AppendUint32(slab, n)
		}
		slab = append(append(slab, field.Name...), field.Value...)
	}
	content := len(slab) - start - frame.HeaderSize
	for len(slab)%8 != 0 {
		slab = append(slab, 0)
	}
	header := slab[start:]
	binary.NativeEndian.PutUint32(header, uint32(len(header)))
	binary.NativeEndian.PutUint32(header[frame.HeaderLength:], uint32(content))
	binary.NativeEndian.PutUint32(header[frame.HeaderState:], frame.Ready)
	binary.NativeEndian.PutUint32(header[frame.HeaderCharge:], f.Charge)
	return slab
}

func length(b []byte) uint32 {
	if b == nil {
		return frame.Null
	}
	return uint32(len(b))
}
