package frame_test

import (
	"bytes"
	"encoding/binary"
	"reflect"
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

// A frame with content that makes no sense costs itself only, and says what it weighs.
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

// FuzzWalk holds the reader to its invariants for any bytes: no panic, and no slice beyond the slab.
func TestReadPlain(t *testing.T) {
	record := frametest.Frame{Topic: "t", Key: []byte("k"), Value: []byte("value")}
	null, other, headed, event := frametest.Frame{Topic: "t"}, frametest.Frame{Topic: "u"}, record, record
	headed.Fields = []frame.Field{frametest.Text("name", "x")}
	event.Source = 1
	for _, test := range []struct {
		frames []frametest.Frame
		want   bool
	}{
		{[]frametest.Frame{record, null, record}, true},
		{nil, false},
		{[]frametest.Frame{record, other}, false},
		{[]frametest.Frame{record, headed}, false},
		{[]frametest.Frame{event, record}, false},
	} {
		var slab []byte
		bytes := int64(0)
		for _, f := range test.frames {
			slab = frametest.Append(slab, f)
			bytes += int64(len(f.Key) + len(f.Value))
		}
		p, ok := frame.ReadPlain(slab)
		if ok != test.want || ok && (string(p.Topic) != "t" || p.Records != len(test.frames) || p.Bytes != bytes) {
			t.Errorf("%v: %v, %v", test.frames, p, ok)
		}
	}
}

// readAlike holds that Next reads of a plain slab what Walk does.
func readAlike(t *testing.T, slab []byte) {
	p, plain := frame.ReadPlain(slab)
	if !plain {
		return
	}
	var next frame.Frame
	at := 0
	_ = frame.Walk(slab, func(f *frame.Frame) {
		if at = next.Next(slab, at); !reflect.DeepEqual(&next, f) {
			t.Errorf("%v is read as %v", f, next)
		}
		p.Records--
	}, func(*frame.Frame, error) { t.Error("damaged") })
	if at != len(slab) || p.Records != 0 {
		t.Errorf("read to %d of %d, %d records not", at, len(slab), p.Records)
	}
}

func FuzzWalk(f *testing.F) {
	whole := build([]byte("key"), []byte("value"), frame.Field{Name: []byte("name"), Value: []byte("x"), Kind: 1})
	f.Add(whole)
	plain := frametest.Append(nil, frametest.Frame{Topic: "t", Key: []byte("key")})
	f.Add(slices.Concat(plain, plain))
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
		readAlike(t, slab)
	})
}
