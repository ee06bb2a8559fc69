package event

import (
	"strconv"
	"strings"
	"time"
	"unicode/utf8"
)

// indexFrom is the number of members from which an object has an index. For a dozen or two, a scan is faster
// than hashing; thousands of variables must not take quadratic time.
const indexFrom = 64

// object collects the members of a JSON object and writes them in the order of first appearance. Setting a
// member again replaces the value in place, like setting a key of a JSON object.
//
// Names are compared in printed form: two names that differ only in bytes outside UTF-8 may be the same
// member.
type object struct {
	members []Field
	index   map[string]int // index of each member by name, from indexFrom members on
}

// set adds a member, or replaces the value of the same name. The field's text is borrowed until the return of
// append.
func (o *object) set(f Field) {
	f.Name = validName(f.Name)
	if i, ok := o.find(f.Name); ok {
		o.members[i] = f
		return
	}
	o.members = append(o.members, f)
	if o.index != nil {
		o.index[f.Name] = len(o.members) - 1
	} else if len(o.members) >= indexFrom {
		o.index = make(map[string]int, 2*len(o.members))
		for i := range o.members {
			o.index[o.members[i].Name] = i
		}
	}
}

func (o *object) find(name string) (int, bool) {
	if o.index != nil {
		i, ok := o.index[name]
		return i, ok
	}
	for i := range o.members {
		if o.members[i].Name == name {
			return i, true
		}
	}
	return 0, false
}

// size estimates the number of bytes written by append, so a usual record needs a single allocation.
func (o *object) size() int {
	n := 2
	for i := range o.members {
		f := &o.members[i]
		n += len(f.Name) + len(`"":"",`)
		switch f.Kind {
		case Integer:
			n += len("-9223372036854775808")
		case Time:
			n += len(timeLayout)
		default:
			n += max(len(f.Text)+len(f.Text)/16, len("null"))
		}
	}
	return n
}

// bytes returns the object and a copy of key, nil for none, in one allocation.
func (o *object) bytes(key []byte, zone *time.Location) (value, keyCopy []byte) {
	value = o.append(make([]byte, 0, o.size()+len(key)), zone)
	if key == nil {
		return value, nil
	}
	end := len(value)
	all := append(value, key...)
	return all[:end:end], all[end:len(all):len(all)]
}

// append writes the object to dst in compact form. Times are printed in zone.
func (o *object) append(dst []byte, zone *time.Location) []byte {
	dst = append(dst, '{')
	for i := range o.members {
		f := &o.members[i]
		if i > 0 {
			dst = append(dst, ',')
		}
		dst = appendString(dst, f.Name)
		dst = append(dst, ':')
		switch {
		case f.Kind == Integer:
			dst = strconv.AppendInt(dst, f.Integer, 10)
		case f.Kind == Time:
			dst = append(dst, '"')
			dst = appendTime(dst, f.Time, zone)
			dst = append(dst, '"')
		case f.Text == nil:
			dst = append(dst, "null"...)
		default:
			dst = appendString(dst, f.Text)
		}
	}
	return append(dst, '}')
}

// timeLayout is the form of ast_json_timeval, %FT%T.%q%z.
const timeLayout = "2006-01-02T15:04:05.000-0700"

// appendTime writes t like Asterisk's ast_json_timeval: local time to the millisecond (cut, not rounded) and
// the offset from UTC without a colon. An unset time is the Unix epoch there.
func appendTime(dst []byte, t time.Time, zone *time.Location) []byte {
	if t.IsZero() {
		t = time.Unix(0, 0)
	}
	return t.In(zone).AppendFormat(dst, timeLayout)
}

// upperHex are the digits of \u escapes; capitals, like Jansson (Asterisk's JSON library).
const upperHex = "0123456789ABCDEF"

// appendString writes s as a JSON string: raw UTF-8, escapes only where JSON requires them, U+FFFD for every
// byte outside UTF-8.
func appendString[T string | []byte](dst []byte, s T) []byte {
	dst = append(dst, '"')
	for i := 0; i < len(s); {
		start := i
		for i < len(s) && s[i] >= ' ' && s[i] < utf8.RuneSelf && s[i] != '"' && s[i] != '\\' {
			i++
		}
		dst = append(dst, s[start:i]...)
		if i == len(s) {
			break
		}
		if c := s[i]; c < utf8.RuneSelf {
			dst = appendEscaped(dst, c)
			i++
			continue
		}
		// UTF-8 has four bytes at most, and the conversion of so few does not allocate.
		r, size := utf8.DecodeRuneInString(string(s[i:min(i+utf8.UTFMax, len(s))]))
		dst = utf8.AppendRune(dst, r)
		i += size
	}
	return append(dst, '"')
}

func appendEscaped(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\b':
		return append(dst, `\b`...)
	case '\f':
		return append(dst, `\f`...)
	case '\n':
		return append(dst, `\n`...)
	case '\r':
		return append(dst, `\r`...)
	case '\t':
		return append(dst, `\t`...)
	}
	return append(dst, '\\', 'u', '0', '0', upperHex[c>>4], upperHex[c&0xf])
}

// validName returns name with U+FFFD for every byte outside UTF-8.
func validName(name string) string {
	if utf8.ValidString(name) {
		return name
	}
	var b strings.Builder
	for _, r := range name {
		b.WriteRune(r)
	}
	return b.String()
}
