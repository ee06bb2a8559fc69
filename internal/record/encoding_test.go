package record

import (
	"bytes"
	"encoding/hex"
	"math/rand/v2"
	"reflect"
	"testing"
	"time"
)

// sample returns a record with null, empty and long parts.
func sample(dice *rand.Rand) Record {
	some := func() []byte {
		switch dice.IntN(4) {
		case 0:
			return nil
		case 1:
			return []byte{}
		}
		return bytes.Repeat([]byte{byte(dice.Uint32())}, dice.IntN(1<<dice.IntN(12)))
	}
	r := Record{Key: some(), Value: some()}
	for range max(0, dice.IntN(5)-2) {
		r.Headers = append(r.Headers, Header{Name: string(some()), Value: some()})
	}
	return r
}

// TestFields_AreReadBack checks that fields survive encoding and decoding, that the size is exact, that
// decoding ends behind the fields, and that decoded fields are copied as a whole.
func TestFields_AreReadBack(t *testing.T) {
	dice := rand.New(rand.NewPCG(1, 1))
	for range 5000 {
		r := sample(dice)
		b := r.AppendFields([]byte("before"))[len("before"):]
		if len(b) != r.FieldsSize() {
			t.Fatalf("%d bytes, want %d: %+v", len(b), r.FieldsSize(), r)
		}
		var got Record
		n, ok := got.ReadFields(append(bytes.Clone(b), "behind"...))
		if !ok || n != len(b) || !bytes.Equal(got.Fields, b) || got.FieldsSize() != n || !bytes.Equal(got.AppendFields(nil), b) {
			t.Fatalf("read %d of %d bytes, %v: %+v", n, len(b), ok, got)
		}
		if got.Fields = nil; !reflect.DeepEqual(got, r) {
			t.Fatalf("read %+v, want %+v", got, r)
		}
	}
}

// TestFields_ArePinned pins the encoding: files of the spool have it.
func TestFields_ArePinned(t *testing.T) {
	r := Record{Key: []byte("key"), Value: []byte{}, Headers: []Header{{Name: "a", Value: []byte("b")}, {Name: ""}}}
	if got, want := hex.EncodeToString(r.AppendFields(nil)), "066b6579"+"00"+"04"+"0261"+"0262"+"00"+"01"; got != want {
		t.Errorf("fields %s, want %s", got, want)
	}
}

// TestReadFields_DamagedBytes_StayInBounds checks that no bytes make ReadFields read or allocate beyond them.
func TestReadFields_DamagedBytes_StayInBounds(t *testing.T) {
	dice := rand.New(rand.NewPCG(2, 2))
	refused := 0
	for range 20_000 {
		r := sample(dice)
		b := r.AppendFields(nil)
		for range 1 + dice.IntN(3) {
			b[dice.IntN(len(b))] = byte(dice.Uint32())
		}
		b = b[:len(b)-dice.IntN(2)*dice.IntN(len(b))]
		var got Record
		n, ok := got.ReadFields(b)
		if !ok {
			refused++
			continue
		}
		if again := (&Record{Key: got.Key, Value: got.Value, Headers: got.Headers}).FieldsSize(); n > len(b) || again > n || len(got.Headers) > len(b) {
			t.Fatalf("read %d of %d bytes, whose fields have %d", n, len(b), again)
		}
	}
	if refused < 1000 {
		t.Errorf("%d refused", refused)
	}
}

// TestOwn_DropsTheEncoding checks that a copied record does not refer to the memory of its encoding.
func TestOwn_DropsTheEncoding(t *testing.T) {
	source := Record{Key: []byte("key"), Value: []byte("value"), Headers: []Header{{Name: "name", Value: []byte("header")}}}
	b := source.AppendFields(nil)
	r := Record{Accepted: time.Unix(1, 0)}
	r.ReadFields(b)
	r.Own()
	clear(b)
	if got := r.AppendFields(nil); !bytes.Equal(got, source.AppendFields(nil)) {
		t.Errorf("fields %x after a change of the source", got)
	}
}
