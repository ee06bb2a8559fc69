package event

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
	"unicode/utf8"
)

// ofObject prints an object with times in UTC.
func ofObject(fields ...Field) string {
	var o object
	for _, f := range fields {
		o.set(f)
	}
	return string(o.append(nil, time.UTC))
}

func text(name, value string) Field { return Field{Name: name, Text: []byte(value)} }

func TestObjectKeepsOrderAndReplacesInPlace(t *testing.T) {
	got := ofObject(text("a", "1"), text("b", "2"), text("a", "3"), Field{Name: "c", Kind: Integer, Integer: -7},
		Field{Name: "b", Kind: Integer, Integer: 5})
	if want := `{"a":"3","b":5,"c":-7}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
	if got := ofObject(); got != "{}" {
		t.Errorf("the empty object is %s", got)
	}
}

func TestObjectTellsNothingFromEmpty(t *testing.T) {
	got := ofObject(Field{Name: "none"}, text("empty", ""))
	if want := `{"none":null,"empty":""}`; got != want {
		t.Errorf("got  %s\nwant %s", got, want)
	}
}

// Above indexFrom members the lookup changes; the output must not.
func TestObjectWithManyMembers(t *testing.T) {
	var o object
	for round := range 2 {
		for i := range 3 * indexFrom {
			o.set(text(fmt.Sprintf("v%d", i), fmt.Sprint(round*1000+i)))
		}
	}
	var want strings.Builder
	for i := range 3 * indexFrom {
		fmt.Fprintf(&want, `,"v%d":"%d"`, i, 1000+i)
	}
	if got := string(o.append(nil, time.UTC)); got != "{"+want.String()[1:]+"}" {
		t.Errorf("got %s", got)
	}
}

func TestStrings(t *testing.T) {
	for _, c := range []struct{ in, want string }{
		{"", `""`},
		{"Müller <b>&</b> 通話 😀", `"Müller <b>&</b> 通話 😀"`},
		{"SIP/a\\b/\"c\"", `"SIP/a\\b/\"c\""`},
		{"\b\f\n\r\t", `"\b\f\n\r\t"`},
		{"\x00\x01\x1b\x1f\x7f", `"\u0000\u0001\u001B\u001F` + "\x7f" + `"`},
		{"\u2028\u2029\ufffd", "\"\u2028\u2029\ufffd\""},
		{"\xe9t\xe9", "\"\ufffdt\ufffd\""},                                // Latin-1
		{"\xed\xa0\x80", "\"\ufffd\ufffd\ufffd\""},                        // a surrogate
		{"\xc0\xaf\xf5", "\"\ufffd\ufffd\ufffd\""},                        // overlong, beyond Unicode
		{"a\xf0\x9f\x98", "\"a\ufffd\ufffd\ufffd\""},                      // cut off
		{"\xf0\x9f\x98\"\xf0\x9f\x98\x80", "\"\ufffd\ufffd\ufffd\\\"😀\""}, // cut off, and then well
	} {
		if got := string(appendString(nil, c.in)); got != c.want {
			t.Errorf("%q as text:  got %s, want %s", c.in, got, c.want)
		}
		if got := string(appendString(nil, []byte(c.in))); got != c.want {
			t.Errorf("%q as bytes: got %s, want %s", c.in, got, c.want)
		}
	}
}

// The expected texts are the output of Asterisk 22 for these times and zones with STRFTIME(…,…,%FT%T.%q%z).
func TestTimesAreAsterisks(t *testing.T) {
	at := time.Unix(1795333839, 123_900_000)
	for _, c := range []struct {
		t    time.Time
		zone string
		want string
	}{
		{at, "UTC", "2026-11-22T07:50:39.123+0000"},
		{at, "Asia/Kolkata", "2026-11-22T13:20:39.123+0530"},
		{time.Unix(1795333839, 999_900_000), "America/St_Johns", "2026-11-22T04:20:39.999-0330"},
		{time.Unix(0, 0), "UTC", "1970-01-01T00:00:00.000+0000"},
		{time.Unix(0, 0), "Europe/London", "1970-01-01T01:00:00.000+0100"},
		{time.Unix(0, 0), "Africa/Monrovia", "1969-12-31T23:15:30.000-0044"},
		{time.Time{}, "UTC", "1970-01-01T00:00:00.000+0000"},
	} {
		if got := string(appendTime(nil, c.t, location(t, c.zone))); got != c.want {
			t.Errorf("%v in %s: got %s, want %s", c.t.UTC(), c.zone, got, c.want)
		}
	}
}

func location(t *testing.T, name string) *time.Location {
	t.Helper()
	zone, err := time.LoadLocation(name)
	if err != nil {
		t.Fatalf("loading the zone %s: %v", name, err)
	}
	return zone
}

func FuzzObject(f *testing.F) {
	f.Add("clid", []byte("\"Bob\" <1>"), "dst", []byte("\xff\xfe"), int64(1), "x")
	f.Add("a\xff", []byte("\x00"), "a\xfe", []byte("\xed\xa0\x80"), int64(-1), "a\ufffd")
	f.Add("", []byte(nil), "", []byte("/\\<>&\u2028"), int64(0), "\x7f")
	f.Fuzz(func(t *testing.T, n1 string, v1 []byte, n2 string, v2 []byte, number int64, n3 string) {
		if v1 == nil {
			v1 = []byte{}
		}
		var o object
		o.set(Field{Name: n1, Text: v1})
		o.set(Field{Name: n2, Kind: Variable, Text: append([]byte{}, v2...)})
		o.set(Field{Name: n3, Kind: Integer, Integer: number})
		out := o.append(nil, time.UTC)

		// A conversion to runes yields the promised U+FFFD for each bad byte.
		clean := func(s string) string { return string([]rune(s)) }
		want := map[string]any{clean(n1): clean(string(v1))}
		want[clean(n2)] = clean(string(v2))
		want[clean(n3)] = json.Number(fmt.Sprint(number))

		if !utf8.Valid(out) || !json.Valid(out) {
			t.Fatalf("not JSON: %q", out)
		}
		got := map[string]any{}
		d := json.NewDecoder(strings.NewReader(string(out)))
		d.UseNumber()
		if err := d.Decode(&got); err != nil {
			t.Fatalf("decoding %q: %v", out, err)
		}
		if len(got) != len(want) {
			t.Fatalf("%q holds %d members, want %d", out, len(got), len(want))
		}
		for name, value := range want {
			if got[name] != value {
				t.Errorf("%q: member %q is %q, want %q", out, name, got[name], value)
			}
		}
		var compact bytes.Buffer
		if err := json.Compact(&compact, out); err != nil || compact.Len() != len(out) {
			t.Errorf("%q is not compact", out)
		}
	})
}
