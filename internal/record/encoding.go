package record

import (
	"encoding/binary"
	"math/bits"
	"unsafe"
)

// The fields of a record are its key, value and headers, as at the end of a record in Kafka's record batch:
// key, value, the number of headers, and the name and value of each header. Bytes stand behind their length,
// null has the length -1. All numbers are zigzag varints. The blocks of the queue, the files of the spool and
// the batches for the brokers have the same fields.

// FieldsSize returns the number of bytes added by AppendFields.
func (r *Record) FieldsSize() int {
	if r.Fields != nil {
		return len(r.Fields)
	}
	n := nullableSize(r.Key) + nullableSize(r.Value) + VarintSize(int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		n += VarintSize(int64(len(h.Name))) + len(h.Name) + nullableSize(h.Value)
	}
	return n
}

func nullableSize(b []byte) int {
	if b == nil {
		return 1
	}
	return VarintSize(int64(len(b))) + len(b)
}

// VarintSize returns the number of bytes of a zigzag varint.
func VarintSize(n int64) int { return (bits.Len64(uint64(n<<1^n>>63)|1) + 6) / 7 }

// AppendFields appends the record's fields.
func (r *Record) AppendFields(to []byte) []byte {
	if r.Fields != nil {
		return append(to, r.Fields...)
	}
	to = appendNullable(to, r.Key)
	to = appendNullable(to, r.Value)
	to = binary.AppendVarint(to, int64(len(r.Headers)))
	for i := range r.Headers {
		h := &r.Headers[i]
		to = binary.AppendVarint(to, int64(len(h.Name)))
		to = append(to, h.Name...)
		to = appendNullable(to, h.Value)
	}
	return to
}

func appendNullable(to, b []byte) []byte {
	if b == nil {
		return binary.AppendVarint(to, -1)
	}
	return append(binary.AppendVarint(to, int64(len(b))), b...)
}

// ReadFields sets Key, Value, Headers and Fields from the output of AppendFields at the start of b, and
// returns the number of its bytes. The record refers to b, which must not change during the record's life. The
// slice of Headers is reused. ok = false: b does not begin with fields, and the record is undefined.
func (r *Record) ReadFields(b []byte) (n int, ok bool) {
	from := fields{rest: b}
	r.Key, r.Value = from.nullable(), from.nullable()
	headers := from.varint()
	if headers < 0 || headers > int64(len(from.rest))/2 { // a header has two bytes at least
		return 0, false
	}
	if r.Headers = r.Headers[:0]; headers <= int64(cap(r.Headers)) {
		r.Headers = r.Headers[:headers]
	} else {
		r.Headers = make([]Header, headers)
	}
	for i := range r.Headers {
		h := &r.Headers[i]
		name := from.nullable()
		from.bad = from.bad || name == nil
		h.Name, h.Value = unsafe.String(unsafe.SliceData(name), len(name)), from.nullable()
	}
	n = len(b) - len(from.rest)
	r.Fields = b[:n:n]
	return n, !from.bad
}

// fields decodes fields. After the first failure it returns null, and bad is true.
type fields struct {
	rest []byte
	bad  bool
}

func (f *fields) varint() int64 {
	v, n := binary.Varint(f.rest)
	if n <= 0 {
		f.bad, f.rest = true, nil
		return -1
	}
	f.rest = f.rest[n:]
	return v
}

// nullable returns the next bytes without spare capacity, or nil for null.
func (f *fields) nullable() []byte {
	n := f.varint()
	if n < 0 || n > int64(len(f.rest)) {
		f.bad = f.bad || n != -1
		return nil
	}
	b := f.rest[:n:n]
	f.rest = f.rest[n:]
	return b
}
