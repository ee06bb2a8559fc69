package frame

import (
	"bytes"
	"encoding/binary"
	"testing"
)

// build lays a frame out as the modules do.
func build(key, value []byte, fields ...Field) []byte {
	content := binary.NativeEndian.AppendUint64(nil, 12345)
	content = binary.NativeEndian.AppendUint64(content, 7)
	length := func(b []byte) uint32 {
		if b == nil {
			return Null
		}
		return uint32(len(b))
	}
	topic := []byte("calls")
	for _, n := range []uint32{uint32(len(topic)), length(key), length(value), uint32(len(fields))} {
		content = binary.NativeEndian.AppendUint32(content, n)
	}
	content = append(append(append(content, topic...), key...), value...)
	for _, f := range fields {
		for _, n := range []uint32{uint32(len(f.Name)), length(f.Value), f.Kind} {
			content = binary.NativeEndian.AppendUint32(content, n)
		}
		content = append(append(content, f.Name...), f.Value...)
	}
	size := (HeaderSize + len(content) + 7) / 8 * 8
	frame := make([]byte, 0, size)
	for _, n := range []uint32{uint32(size), uint32(len(content)), Ready, 99} {
		frame = binary.NativeEndian.AppendUint32(frame, n)
	}
	return append(frame, content...)[:size]
}

func TestWalkKeepsNullAndEmptyApart(t *testing.T) {
	slab := append(build(nil, []byte{}), build([]byte{}, nil, Field{Name: []byte("h"), Value: []byte{}}, Field{Name: []byte(""), Kind: 2})...)
	var seen []Frame
	var fields []Field
	if err := Walk(slab, func(f *Frame) {
		seen = append(seen, *f)
		if err := f.EachField(func(f Field) { fields = append(fields, f) }); err != nil {
			t.Error(err)
		}
	}); err != nil {
		t.Fatal(err)
	}
	if len(seen) != 2 || seen[0].Key != nil || seen[0].Value == nil || seen[1].Key == nil || seen[1].Value != nil {
		t.Fatalf("null and empty are mixed up: %+v", seen)
	}
	if f := seen[0]; f.AcceptedNS != 12345 || f.Source != 7 || string(f.Topic) != "calls" || f.Charge != 99 {
		t.Errorf("head read wrongly: %+v", f)
	}
	if len(fields) != 2 || string(fields[0].Name) != "h" || fields[0].Value == nil || fields[1].Value != nil || fields[1].Kind != 2 {
		t.Errorf("fields read wrongly: %+v", fields)
	}
}

// FuzzWalk holds the reader to its invariants for any bytes: no panic, and no slice beyond the slab.
func FuzzWalk(f *testing.F) {
	whole := build([]byte("key"), []byte("value"), Field{Name: []byte("name"), Value: []byte("x"), Kind: 1})
	f.Add(whole)
	f.Add(whole[:len(whole)-8])
	broken := bytes.Clone(whole)
	binary.NativeEndian.PutUint32(broken[HeaderSize+HeadKeyLength:], 1<<31)
	f.Add(broken)
	f.Fuzz(func(t *testing.T, slab []byte) {
		total := 0
		_ = Walk(slab, func(fr *Frame) {
			total += HeaderSize + HeadSize + len(fr.Topic) + len(fr.Key) + len(fr.Value)
			_ = fr.EachField(func(fd Field) { total += FieldSize + len(fd.Name) + len(fd.Value) })
		})
		if total > len(slab) {
			t.Errorf("read %d bytes out of a slab of %d", total, len(slab))
		}
	})
}
