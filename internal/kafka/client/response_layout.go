package client

import (
	"fmt"
	"strconv"
	"strings"
	"sync/atomic"
	"unicode"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// responseLayouts has the fields of every response read by the clients, as decoded by the client library. A
// response without a row is limited by its size alone.
//
// A field is a letter: b, h, i, l and u take 1, 2, 4, 8 and 16 bytes, t is a throttle time in milliseconds, o
// an offset, s a string, q a required string, y bytes, r the record batches of a partition, p a partition's
// number, f a replica to read from, c the error of an epoch, e the end offset of the epoch, k a request's
// key. [...] is an array of structures, *i an array of numbers, {...} a structure, %0 the tagged field 0 of
// the enclosing structure. A field may be followed by its versions, none = all. f9 means that versions are
// flexible from 9 on: lengths are compact, and structures end with tagged fields.
var responseLayouts = map[kmsg.Key]string{
	kmsg.Produce:              "f9 [s0-12 u13+ [i h o l2+ l5+ [i s]8+ s8+ %0{i i}]] t1+ %0[i s i s]",
	kmsg.Fetch:                "f12 t1+ h7+ i7+ [s0-12 u13+ [p h o o4+ o5+ [l l]4+ f11+ r %0{i l} %1{i i} %2{l i}]] %0[i s i s]",
	kmsg.ListOffsets:          "f6 t2+ [s [i h *l0-0 l1+ o1+ i4+]]",
	kmsg.Metadata:             "f9 t3+ [i s i s1+] s2+ i1+ [h q u10+ b1+ [h i i i7+ *i *i *i5+] i8+] i8-10 h13+",
	kmsg.OffsetCommit:         "f8 t3+ [s0-9 u10+ [i h]]",
	kmsg.OffsetFetch:          "f6 t3+ [s [i o i5+ s h]]0-7 h2-7 [s [s8-9 u10+ [i o i s h]] h]8+",
	kmsg.FindCoordinator:      "f3 t1+ h0-3 s1-3 i0-3 s0-3 i0-3 [s i s i h s]4+",
	kmsg.JoinGroup:            "f6 t2+ h i s7+ s s b9+ s [s s5+ y]",
	kmsg.Heartbeat:            "f4 t1+ h",
	kmsg.LeaveGroup:           "f4 t1+ h [s s h]3+",
	kmsg.SyncGroup:            "f4 t1+ h s5+ s5+ y",
	kmsg.SASLHandshake:        "h *s",
	kmsg.ApiVersions:          "f3 h [k h h] t1+ %0[s h h] %1l %2[s h h] %3b",
	kmsg.CreateTopics:         "f5 t2+ [s u7+ h s1+ i5+ h5+ [s s b b b]5+ %0h]",
	kmsg.InitProducerID:       "f2 t h l h",
	kmsg.OffsetForLeaderEpoch: "f4 t2+ [s [c i i1+ e]]",
	kmsg.SASLAuthenticate:     "f2 h s y l1+",
}

// layout is the layout of a structure in one version.
type layout struct {
	fields []field
	tagged bool // ends with tagged fields
	known  map[uint32]*layout
	bytes  int // least number of bytes on the wire
	memory int // bytes of the decoded structure, roughly
}

// field is a field of a layout.
type field struct {
	kind    byte    // as in responseLayouts; '[' for every array
	size    int     // of a fixed field, bytes
	compact bool    // with a compact length
	element *layout // of an array
}

// fixedSizes are the bytes of fields without a length prefix.
var fixedSizes = map[byte]int{'b': 1, 'h': 2, 'i': 4, 'p': 4, 'l': 8, 'u': 16, 't': 4, 'o': 8, 'f': 4, 'c': 2, 'e': 8, 'k': 2}

// compiled caches layouts by key and version.
var compiled [kmsg.SASLAuthenticate + 1][32]atomic.Pointer[layout]

// layoutOf returns the layout of a response, nil when there is none, and whether the response's header has tags.
func layoutOf(key kmsg.Key, version int16) (l *layout, headerTags bool) {
	text, ok := responseLayouts[key]
	if !ok || int(version) >= len(compiled[key]) {
		return nil, false
	}
	cached := &compiled[key][version]
	if l = cached.Load(); l == nil {
		c := compiler{text: text, version: int(version)}
		l = c.response()
		cached.Store(l)
	}
	// The library reads the answer to ApiVersions before it knows the broker's versions.
	return l, l.tagged && key != kmsg.ApiVersions
}

// compiler compiles the layout of one version.
type compiler struct {
	text     string
	version  int
	flexible bool
}

func (c *compiler) response() *layout {
	if strings.HasPrefix(c.text, "f") {
		c.text = c.text[1:]
		c.flexible = c.version >= c.number()
	}
	return c.structure(0)
}

// structure reads fields up to end.
func (c *compiler) structure(end byte) *layout {
	l := &layout{tagged: c.flexible, known: map[uint32]*layout{}}
	for {
		c.text = strings.TrimLeft(c.text, " ")
		if c.text == "" || c.text[0] == end {
			c.text = strings.TrimPrefix(c.text, string(rune(end)))
			break
		}
		if c.text[0] == '%' {
			c.text = c.text[1:]
			tag := c.number()
			content := &layout{}
			if c.text[0] == '{' {
				c.text = c.text[1:]
				content = c.structure('}')
			} else {
				content.add(c.field())
			}
			l.known[uint32(tag)] = content
			continue
		}
		f := c.field()
		if c.applies() {
			l.add(f)
		}
	}
	if l.tagged {
		l.bytes++
		l.memory += 8
	}
	return l
}

func (c *compiler) field() field {
	kind := c.text[0]
	c.text = c.text[1:]
	switch kind {
	case '[':
		return field{kind: '[', compact: c.flexible, element: c.structure(']')}
	case '*':
		element := &layout{}
		element.add(c.field())
		return field{kind: '[', compact: c.flexible, element: element}
	}
	if fixedSizes[kind] == 0 && !strings.ContainsRune("sqyr", rune(kind)) {
		panic(fmt.Sprintf("a response's layout has %c", kind))
	}
	return field{kind: kind, size: fixedSizes[kind], compact: c.flexible}
}

// applies reads the versions behind a field and reports whether the layout's version is among them.
func (c *compiler) applies() bool {
	if c.text == "" || !unicode.IsDigit(rune(c.text[0])) {
		return true
	}
	first, last := c.number(), c.version
	if strings.HasPrefix(c.text, "+") {
		c.text = c.text[1:]
	} else {
		c.text = strings.TrimPrefix(c.text, "-")
		last = c.number()
	}
	return first <= c.version && c.version <= last
}

func (c *compiler) number() int {
	digits := strings.IndexFunc(c.text, func(r rune) bool { return !unicode.IsDigit(r) })
	if digits < 0 {
		digits = len(c.text)
	}
	n, err := strconv.Atoi(c.text[:digits])
	if err != nil {
		panic(err)
	}
	c.text = c.text[digits:]
	return n
}

func (l *layout) add(f field) {
	l.fields = append(l.fields, f)
	switch {
	case f.size > 0:
		l.bytes += f.size
		l.memory += f.size
	case f.compact:
		l.bytes++
		l.memory += 24
	case f.kind == 's', f.kind == 'q':
		l.bytes += 2
		l.memory += 24
	default:
		l.bytes += 4
		l.memory += 24
	}
}
