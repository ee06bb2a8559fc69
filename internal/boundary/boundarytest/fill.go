// Package boundarytest makes messages of the boundary with random contents, for tests.
package boundarytest

import (
	"fmt"
	"math/rand/v2"
	"reflect"

	"reskafka/internal/boundary"
)

// Fill sets every field of body to a random value, including extremes, none, empty and bytes outside UTF-8.
func Fill(rng *rand.Rand, body boundary.Body) {
	fill(rng, reflect.ValueOf(body).Elem())
}

func fill(rng *rand.Rand, v reflect.Value) {
	switch v.Kind() {
	case reflect.Struct:
		for i := range v.NumField() {
			fill(rng, v.Field(i))
		}
	case reflect.String:
		v.SetString(string(text(rng)))
	case reflect.Bool:
		v.SetBool(rng.IntN(2) == 1)
	case reflect.Uint32, reflect.Uint64:
		v.SetUint(number(rng) >> (64 - v.Type().Bits()))
	case reflect.Int32, reflect.Int64:
		v.SetInt(int64(number(rng)) >> (64 - v.Type().Bits()))
	case reflect.Slice:
		if v.Type().Elem().Kind() == reflect.Uint8 {
			if rng.IntN(3) > 0 {
				v.SetBytes(text(rng))
			} else {
				v.SetZero()
			}
			return
		}
		list := reflect.MakeSlice(v.Type(), rng.IntN(5), 5)
		for i := range list.Len() {
			fill(rng, list.Index(i))
		}
		v.Set(list)
	default:
		panic(fmt.Sprintf("a field of type %s", v.Type()))
	}
}

// number returns any number; each extreme comes often.
func number(rng *rand.Rand) uint64 {
	switch rng.IntN(5) {
	case 0:
		return 0
	case 1:
		return 1<<64 - 1
	case 2:
		return 1 << 63
	case 3:
		return 1<<63 - 1
	}
	return rng.Uint64()
}

// text returns bytes, not nil.
func text(rng *rand.Rand) []byte {
	switch rng.IntN(4) {
	case 0:
		return []byte{}
	case 1:
		return []byte("billing.calls")
	case 2:
		return []byte("\xff\xfe\x00M\xfcnchen\x00") // not UTF-8, with NUL
	}
	b := make([]byte, rng.IntN(300))
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
	return b
}

// Frame is an encoded message with its fields in the table.
type Frame struct {
	Bytes  []byte
	Answer bool
	Row    *boundary.Message
	Fields []boundary.Field
}

// New returns the zero body of the frame, nil without fields.
func (f *Frame) New() boundary.Body {
	if f.Answer {
		return boundary.NewAnswer(f.Row.Kind)
	}
	return boundary.NewRequest(f.Row.Kind)
}

// Frames returns each request and each answer of the table once, with random contents.
func Frames(rng *rand.Rand) []Frame {
	var frames []Frame
	for i := range boundary.Messages {
		m := &boundary.Messages[i]
		frames = append(frames, Frame{Row: m, Fields: m.Request})
		if !m.OneWay {
			frames = append(frames, Frame{Row: m, Fields: m.Answer, Answer: true})
		}
	}
	for i := range frames {
		f := &frames[i]
		var number uint64
		if !f.Row.OneWay {
			number = rng.Uint64() | 1
		}
		body := f.New()
		if body != nil {
			Fill(rng, body)
		}
		f.Bytes = Encode(f.Row.Kind, f.Answer, number, body)
	}
	return frames
}

// Encode returns the bytes of a frame. It panics if the frame is too long.
func Encode(kind boundary.Kind, answer bool, number uint64, body boundary.Body) []byte {
	var w boundary.Writer
	w.Begin(kind, answer, number)
	if body != nil {
		body.Put(&w)
	}
	bytes, err := w.Finish()
	if err != nil {
		panic(err)
	}
	return bytes
}
