// Package boundary is the connection between two processes, Asterisk's module (C) and the engine (Go): the
// table of messages, the encoding, and a socket. The C side is the folder boundary/ at the top of the
// repository. Its messages.h and this package's messages.go are generated from table.go.
//
// A frame is the length of the rest (32 bits), the kind (16), flags (16), the number of the request (64), and
// the fields in the order of the table. All numbers are little-endian. A number field has 64 bits. A text has
// its length (32 bits, 0xffffffff = none), its bytes, and a final NUL outside the length. A list has its
// count (32 bits) and then the fields of each element. The fields end with the frame.
package boundary

import (
	"encoding/binary"
	"errors"
	"fmt"
)

// Limits of a frame, in bytes, without the 4 bytes of the length.
const (
	// FrameMax is the longest frame except Bulk answers. It bounds the reader's allocation for a damaged
	// length; the longest request is a kafka.conf.
	FrameMax = 64 << 20
	// MessagesMax is the longest answer to next: a single message of the largest message_max_bytes,
	// 1000000000, with headers.
	MessagesMax = 1<<30 + 64<<20
)

const (
	headSize  = 16 // length, kind, flags, number
	uncounted = 4  // the length does not count itself
	flagReply = 1  // flags: an answer

	none = 0xffffffff // the length of a missing text
)

// Kind is the number of a message in the table.
type Kind uint16

// String returns the message's name.
func (k Kind) String() string {
	if m := byKind[k]; m != nil {
		return m.Name
	}
	return fmt.Sprintf("message %d", uint16(k))
}

// Side is an end of the connection.
type Side int

// The ends.
const (
	ModuleSide Side = iota // res_kafka.so
	EngineSide             // reskafka engine
)

// ErrFormat is the root of every error about bytes outside the format.
var ErrFormat = errors.New("damaged message")

// Body is the request or the answer of a message; messages.go has all bodies.
type Body interface {
	// Put appends the fields.
	Put(w *Writer)
	// Get reads the fields. The Reader has the error.
	Get(r *Reader)
}

// Frame is a received message.
type Frame struct {
	Kind   Kind
	Answer bool
	Number uint64 // of the request, chosen by the requesting side; 0 = one-way
	Fields []byte // encoded; the receiver's own memory
}

// Decode reads the fields of f into body; nil is for a message without fields. Strings are copies, []byte are
// parts of f.Fields. The error wraps ErrFormat; body is then undefined.
func (f *Frame) Decode(body Body) error {
	r := NewReader(f.Fields)
	if body != nil {
		body.Get(r)
	}
	if err := r.End(); err != nil {
		return fmt.Errorf("%s: %w", f.name(), err)
	}
	return nil
}

func (f *Frame) name() string {
	if f.Answer {
		return "answer to " + f.Kind.String()
	}
	return f.Kind.String()
}

// parseHead reads the 16 bytes before the fields and returns the length of the fields. from is the sender.
func parseHead(head []byte, from Side) (f Frame, length int, err error) {
	size := binary.LittleEndian.Uint32(head)
	f.Kind = Kind(binary.LittleEndian.Uint16(head[4:]))
	flags := binary.LittleEndian.Uint16(head[6:])
	f.Answer = flags == flagReply
	f.Number = binary.LittleEndian.Uint64(head[8:])
	m := byKind[f.Kind]
	switch {
	case m == nil:
		return f, 0, fmt.Errorf("%w: there is no message %d", ErrFormat, uint16(f.Kind))
	case flags > flagReply:
		return f, 0, fmt.Errorf("%w: %s has the flags %#x", ErrFormat, f.Kind, flags)
	case f.Answer == (m.From == from), f.Answer && m.OneWay:
		return f, 0, fmt.Errorf("%w: %s comes from the wrong side", ErrFormat, f.name())
	case (f.Number == 0) != m.OneWay:
		return f, 0, fmt.Errorf("%w: %s has the number %d", ErrFormat, f.name(), f.Number)
	case size < headSize-uncounted || size > maxLength(m, f.Answer):
		return f, 0, fmt.Errorf("%w: %s of %d bytes", ErrFormat, f.name(), size)
	}
	return f, int(size) - (headSize - uncounted), nil
}

func maxLength(m *Message, answer bool) uint32 {
	if m.Bulk && answer {
		return MessagesMax
	}
	return FrameMax
}
