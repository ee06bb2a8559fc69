package boundary_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"os"
	"reflect"
	"testing"

	"reskafka/internal/boundary"
	"reskafka/internal/boundary/boundarytest"
)

// stream is a socket with bytes to read.
type stream struct{ io.Reader }

func (stream) Write([]byte) (int, error) { return 0, os.ErrInvalid }
func (stream) Close() error              { return nil }

func newBody(f *boundary.Frame) boundary.Body {
	if f.Answer {
		return boundary.NewAnswer(f.Kind)
	}
	return boundary.NewRequest(f.Kind)
}

// FuzzConn_Read checks that no received bytes make the reader panic, and that an accepted message is
// unchanged after another encoding.
func FuzzConn_Read(f *testing.F) {
	rng := rand.New(rand.NewPCG(1, 1))
	for range 3 {
		var frames []byte
		for _, frame := range boundarytest.Frames(rng) {
			f.Add(frame.Bytes)
			frames = append(frames, frame.Bytes...)
		}
		f.Add(frames)
	}
	f.Fuzz(func(t *testing.T, input []byte) {
		for _, side := range []boundary.Side{boundary.ModuleSide, boundary.EngineSide} {
			conn := boundary.NewConn(stream{bytes.NewReader(input)}, side)
			for {
				frame, err := conn.Read()
				if err != nil {
					if err != io.EOF && err != io.ErrUnexpectedEOF && !errors.Is(err, boundary.ErrFormat) {
						t.Fatal(err)
					}
					break
				}
				_ = boundary.CheckPeer(&frame)
				checkFrame(t, &frame)
			}
		}
	})
}

// checkFrame decodes a frame; after a success it encodes and decodes the frame again.
func checkFrame(t *testing.T, frame *boundary.Frame) {
	body := newBody(frame)
	if frame.Decode(body) != nil || body == nil {
		return
	}
	again := *frame
	again.Fields = boundarytest.Encode(frame.Kind, frame.Answer, frame.Number, body)[16:]
	second := newBody(frame)
	if err := again.Decode(second); err != nil {
		t.Fatalf("%s: an accepted message is not accepted again: %v", frame.Kind, err)
	}
	if !reflect.DeepEqual(body, second) {
		t.Fatalf("%s: decoded\n%+v\nand after encoding\n%+v", frame.Kind, body, second)
	}
}
