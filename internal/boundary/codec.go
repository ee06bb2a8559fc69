package boundary

import (
	"encoding/binary"
	"fmt"
	"math"
	"slices"
)

// Writer encodes one frame after another into its own memory. The zero Writer is ready for Begin. Not safe
// for concurrent use. A failure lasts until the next Begin; Finish returns the error.
type Writer struct {
	bytes []byte
	most  uint32
	err   error
}

// Begin starts a frame and drops the previous frame.
func (w *Writer) Begin(kind Kind, answer bool, number uint64) {
	var flags uint16
	if answer {
		flags = flagReply
	}
	w.bytes, w.err, w.most = w.bytes[:0], nil, FrameMax
	if m := byKind[kind]; m != nil {
		w.most = maxLength(m, answer)
	}
	w.bytes = binary.LittleEndian.AppendUint32(w.bytes, 0)
	w.bytes = binary.LittleEndian.AppendUint16(w.bytes, uint16(kind))
	w.bytes = binary.LittleEndian.AppendUint16(w.bytes, flags)
	w.bytes = binary.LittleEndian.AppendUint64(w.bytes, number)
}

// Finish completes the frame and returns its bytes, valid until the next Begin. The error wraps ErrFormat:
// the frame is above the receiver's limit.
func (w *Writer) Finish() ([]byte, error) {
	if !w.fits(0) {
		return nil, w.err
	}
	binary.LittleEndian.PutUint32(w.bytes, uint32(len(w.bytes)-uncounted))
	return w.bytes, nil
}

// Len returns the present length of the frame, for callers that split lists.
func (w *Writer) Len() int { return len(w.bytes) }

// fits reports whether n more bytes may follow, and fails the frame if not.
func (w *Writer) fits(n int) bool {
	if w.err == nil && uint64(len(w.bytes))+uint64(n) > uint64(w.most)+uncounted {
		w.err = fmt.Errorf("%w: longer than %d bytes", ErrFormat, w.most)
	}
	return w.err == nil
}

// Number appends a number.
func (w *Writer) Number(n uint64) {
	if w.fits(8) {
		w.bytes = binary.LittleEndian.AppendUint64(w.bytes, n)
	}
}

// Bool appends 1 or 0.
func (w *Writer) Bool(b bool) {
	var n uint64
	if b {
		n = 1
	}
	w.Number(n)
}

// Text appends a text, which may be empty but not none.
func (w *Writer) Text(s string) {
	if w.fits(4 + len(s) + 1) {
		w.bytes = AppendText(w.bytes, s)
	}
}

// Bytes appends a text, none if b is nil.
func (w *Writer) Bytes(b []byte) {
	if w.fits(4 + len(b) + 1) {
		w.bytes = AppendBytes(w.bytes, b)
	}
}

// Fields appends the fields appended by encode, which must not grow the frame by more than n bytes. Fields checks
// the limit once, for lists of many small fields.
func (w *Writer) Fields(n int, encode func(fields []byte) []byte) {
	if w.fits(n) {
		w.bytes = encode(slices.Grow(w.bytes, n))
	}
}

// AppendNumber appends a number to encoded fields.
func AppendNumber(fields []byte, n uint64) []byte {
	return binary.LittleEndian.AppendUint64(fields, n)
}

// AppendCount begins a list of n elements.
func AppendCount(fields []byte, n int) []byte {
	return binary.LittleEndian.AppendUint32(fields, uint32(n))
}

// AppendText appends a text, which may be empty but not none.
func AppendText(fields []byte, s string) []byte {
	return append(append(AppendCount(fields, len(s)), s...), 0)
}

// AppendBytes appends a text, none if b is nil.
func AppendBytes(fields, b []byte) []byte {
	if b == nil {
		return binary.LittleEndian.AppendUint32(fields, none)
	}
	return append(append(AppendCount(fields, len(b)), b...), 0)
}

// Count begins a list of n elements, which the caller appends.
func (w *Writer) Count(n int) {
	if w.fits(4 + n) { // an element has 4 bytes at least
		w.bytes = binary.LittleEndian.AppendUint32(w.bytes, uint32(n))
	}
}

// Texts appends a list of texts.
func (w *Writer) Texts(list []string) {
	w.Count(len(list))
	for _, s := range list {
		w.Text(s)
	}
}

// Reader decodes the fields of a frame. For any bytes, it reads nothing outside the fields. A failure lasts:
// every later call returns a zero value. Not safe for concurrent use.
type Reader struct {
	rest []byte
	err  error
}

// NewReader returns a Reader of a frame's fields. The Reader refers to fields and never writes to them.
func NewReader(fields []byte) *Reader { return &Reader{rest: fields} }

// End returns the first failure, or an error if bytes are left. The error wraps ErrFormat.
func (r *Reader) End() error {
	if r.err == nil && len(r.rest) > 0 {
		r.fail("%d bytes too many", len(r.rest))
	}
	return r.err
}

func (r *Reader) fail(format string, args ...any) {
	if r.err == nil {
		r.err = fmt.Errorf("%w: %s", ErrFormat, fmt.Sprintf(format, args...))
	}
	r.rest = nil
}

// take returns the next n bytes, or nil after a failure.
func (r *Reader) take(n uint64) []byte {
	if r.err == nil && n > uint64(len(r.rest)) {
		r.fail("%d bytes where %d are left", n, len(r.rest))
	}
	if r.err != nil {
		return nil
	}
	taken := r.rest[:n:n]
	r.rest = r.rest[n:]
	return taken
}

func (r *Reader) uint32() uint32 {
	if b := r.take(4); b != nil {
		return binary.LittleEndian.Uint32(b)
	}
	return 0
}

// Number reads a number.
func (r *Reader) Number() uint64 {
	if b := r.take(8); b != nil {
		return binary.LittleEndian.Uint64(b)
	}
	return 0
}

// Uint32 reads a number; a number that does not fit is a failure.
func (r *Reader) Uint32() uint32 {
	n := r.Number()
	if n > math.MaxUint32 {
		r.fail("the number %d where 32 bits are expected", n)
		return 0
	}
	return uint32(n)
}

// Int32 reads a number; a number that does not fit is a failure.
func (r *Reader) Int32() int32 {
	n := int64(r.Number())
	if n != int64(int32(n)) {
		r.fail("the number %d where 32 bits are expected", n)
		return 0
	}
	return int32(n)
}

// Bool reads a number; any other than 0 or 1 is a failure.
func (r *Reader) Bool() bool {
	n := r.Number()
	if n > 1 {
		r.fail("the number %d where 0 or 1 is expected", n)
		return false
	}
	return n == 1
}

// Bytes reads a text and returns a part of the fields, or nil for none.
func (r *Reader) Bytes() []byte {
	length := r.uint32()
	if r.err != nil || length == none {
		return nil
	}
	b := r.take(uint64(length) + 1)
	if b == nil {
		return nil
	}
	if b[length] != 0 {
		r.fail("a text without NUL")
		return nil
	}
	return b[:length:length]
}

// Text reads a text and returns a copy, or "" for none.
func (r *Reader) Text() string { return string(r.Bytes()) }

// Count reads the count of a list whose elements have at least `least` bytes each. A count above the rest of
// the frame is a failure. A loop over the count therefore ends, and a slice of this length costs a multiple
// of the frame.
func (r *Reader) Count(least int) int {
	n := r.uint32()
	if uint64(n)*uint64(least) > uint64(len(r.rest)) {
		r.fail("a list of %d elements where %d bytes are left", n, len(r.rest))
		return 0
	}
	return int(n)
}

// Texts reads a list of texts.
func (r *Reader) Texts() []string {
	n := r.Count(4)
	if n == 0 {
		return nil
	}
	list := make([]string, 0, capacity(n))
	for ; n > 0 && r.more(); n-- {
		list = append(list, r.Text())
	}
	return list
}

// capacity bounds the allocation for a list's count: the elements must arrive as well.
func capacity(n int) int { return min(n, 1024) }

// more reports whether the list has no failure so far, so its decoder appends no elements after one.
func (r *Reader) more() bool { return r.err == nil }
