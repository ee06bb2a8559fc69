package frame_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
)

func build(key, value []byte, fields ...frame.Field) []byte {
	return frametest.Append(nil, frametest.Frame{
		AcceptedNS: 12345, Source: 7, Topic: "calls", Key: key, Value: value, Fields: fields, Charge: 99,
	})
}

func TestWalkKeepsNullAndEmptyApart(t *testing.T) {
	slab := append(build(nil, []byte{}), build([]byte{}, nil, frame.Field{Name: []byte("h"), Value: []byte{}}, frame.Field{Name: []byte(""), Kind: 2})...)
	var seen []frame.Frame
	var fields []frame.Field
	if err := frame.Walk(slab, func(f *frame.Frame) {
		seen = append(seen, *f)
		if err := f.EachField(func(f frame.Field) { fields = append(fields, f) }); err != nil {
			t.Error(err)
		}
	}, func(_ *frame.Frame, err error) { t.Error(err) }); err != nil {
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

// A frame with invalid content costs no other frame, and still reports its charge.
func TestWalkGoesOnBehindADamagedFrame(t *testing.T) {
	broken := build([]byte("k"), []byte("v"))
	binary.NativeEndian.PutUint32(broken[frame.HeaderSize+frame.HeadKeyLength:], 1<<31)
	slab := slices.Concat(build([]byte("1"), nil), broken, build([]byte("2"), nil))
	var keys string
	var weight uint32
	err := frame.Walk(slab, func(f *frame.Frame) { keys += string(f.Key) }, func(f *frame.Frame, err error) { weight += f.Charge })
	if err != nil || keys != "12" || weight != 99 {
		t.Errorf("read %q beside a damaged weight of %d, %v; want 12 and 99", keys, weight, err)
	}
}

// After the start of a new engine a range contains frames finished by the previous engine.
func TestWalk_FramesDone_Skipped(t *testing.T) {
	slab := slices.Concat(build([]byte("1"), nil), build([]byte("2"), nil), build([]byte("3"), nil))
	size := len(slab) / 3
	for _, at := range []int{0, 2 * size} {
		frametest.SetState(slab, at, frame.Done)
	}
	var keys string
	if err := frame.Walk(slab, func(f *frame.Frame) { keys += string(f.Key) }, nil); err != nil || keys != "2" {
		t.Errorf("read %q, %v", keys, err)
	}
	frametest.SetState(slab, size, 0)
	damaged := 0
	if err := frame.Walk(slab, nil, func(*frame.Frame, error) { damaged++ }); err != nil || damaged != 1 {
		t.Errorf("%d damaged frames beside an unfinished one, %v", damaged, err)
	}
}

// An event's encoder looks at bytes twice.
func TestFrame_Own_LeavesSharedMemory(t *testing.T) {
	slab := build([]byte("key"), []byte("value"), frame.Field{Name: []byte("name"), Value: []byte("x")})
	seen := 0
	err := frame.Walk(slab, func(f *frame.Frame) {
		if _, err := f.Own(nil); err != nil {
			t.Fatal(err)
		}
		clear(slab)
		_ = f.EachField(func(fd frame.Field) {
			if seen++; string(fd.Name) != "name" || string(fd.Value) != "x" {
				t.Errorf("field %q = %q", fd.Name, fd.Value)
			}
		})
		if string(f.Topic) != "calls" || string(f.Key) != "key" || string(f.Value) != "value" || f.Charge != 99 {
			t.Errorf("%+v", f)
		}
	}, nil)
	if err != nil || seen != 1 {
		t.Errorf("%d fields, %v", seen, err)
	}
}

// FuzzWalk checks that the reader neither panics nor returns slices beyond the slab, for any bytes.
func FuzzWalk(f *testing.F) {
	whole := build([]byte("key"), []byte("value"), frame.Field{Name: []byte("name"), Value: []byte("x"), Kind: 1})
	f.Add(whole)
	f.Add(whole[:len(whole)-8])
	broken := bytes.Clone(whole)
	binary.NativeEndian.PutUint32(broken[frame.HeaderSize+frame.HeadKeyLength:], 1<<31)
	f.Add(broken)
	f.Fuzz(func(t *testing.T, slab []byte) {
		total := 0
		_ = frame.Walk(slab, func(fr *frame.Frame) {
			total += frame.HeaderSize + frame.HeadSize + len(fr.Topic) + len(fr.Key) + len(fr.Value)
			_ = fr.EachField(func(fd frame.Field) { total += frame.FieldSize + len(fd.Name) + len(fd.Value) })
		}, func(*frame.Frame, error) { total += frame.HeaderSize })
		if total > len(slab) {
			t.Errorf("read %d bytes out of a slab of %d", total, len(slab))
		}
	})
}
