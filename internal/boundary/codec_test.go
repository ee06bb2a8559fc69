package boundary_test

import (
	"encoding/binary"
	"errors"
	"strings"
	"testing"

	"reskafka/internal/boundary"
)

func number(n uint64) string { return string(binary.LittleEndian.AppendUint64(nil, n)) }

func length(n uint32) string { return string(binary.LittleEndian.AppendUint32(nil, n)) }

// Each rule of the format: a violation is an error with the rule.
func TestReader_DamagedFields_Refused(t *testing.T) {
	for _, c := range []struct {
		fields string
		read   func(r *boundary.Reader)
		want   string
	}{
		{"", func(r *boundary.Reader) { r.Number() }, "8 bytes where 0 are left"},
		{number(1) + "x", func(r *boundary.Reader) { r.Number() }, "1 bytes too many"},
		{number(1 << 32), func(r *boundary.Reader) { r.Uint32() }, "the number 4294967296 where 32 bits"},
		{number(1 << 31), func(r *boundary.Reader) { r.Int32() }, "the number 2147483648 where 32 bits"},
		{number(2), func(r *boundary.Reader) { r.Bool() }, "the number 2 where 0 or 1"},
		{length(2) + "abc", func(r *boundary.Reader) { r.Text() }, "a text without NUL"},
		{length(3) + "abc", func(r *boundary.Reader) { r.Text() }, "4 bytes where 3 are left"},
		{length(0xfffffffe) + "abc", func(r *boundary.Reader) { r.Bytes() }, "4294967295 bytes where 3 are left"},
		{length(2) + length(0xffffffff), func(r *boundary.Reader) { r.Count(4) }, "a list of 2 elements where 4 bytes"},
		{length(0xffffffff), func(r *boundary.Reader) { r.Texts() }, "a list of 4294967295 elements where 0 bytes"},
	} {
		r := boundary.NewReader([]byte(c.fields))
		c.read(r)
		if err := r.End(); !errors.Is(err, boundary.ErrFormat) || !strings.Contains(err.Error(), c.want) {
			t.Errorf("%q: %v, without %q", c.fields, err, c.want)
		}
		if r.Number() != 0 || r.Bytes() != nil || r.Count(1) != 0 {
			t.Errorf("%q: a read after the failure returned something", c.fields)
		}
	}
}

// None and empty are two things.
func TestReader_NoneAndEmpty(t *testing.T) {
	r := boundary.NewReader([]byte(length(0xffffffff) + length(0) + "\x00" + length(0xffffffff)))
	if b := r.Bytes(); b != nil {
		t.Errorf("none is %q", b)
	}
	if b := r.Bytes(); b == nil || len(b) > 0 {
		t.Errorf("the empty text is %#v", b)
	}
	if s := r.Text(); s != "" || r.End() != nil {
		t.Errorf("%q, %v", s, r.End())
	}
}
