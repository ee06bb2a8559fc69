package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math"
	"time"

	"reskafka/internal/record"
)

// The format of the files, drawn in documentation/spool-format.md. Every number is little-endian.
const (
	magic   = "RKSPOOL\n"
	version = 3

	headerFixed    = 52       // bytes of a segment's header before the names
	headerFixed1   = 36       // the same in version 1, which has neither boot nor stored
	maxHeaderBytes = 64 << 10 // bytes a header may have
	frameHead      = 20       // bytes of a record before the body
	maxNameBytes   = 16 << 10 // bytes a connection's or a topic's name may have

	// maxPosition is above every reachable position; larger positions are damage.
	maxPosition = 1 << 62
)

// kind is the kind of a log.
type kind uint16

const (
	kindTopic kind = 1 // the records of a topic
	kindDead  kind = 2 // dead letters, of all topics
)

// First byte of a record's body.
const (
	bodyRecord1 = 1 // of version 1, without the time of storage
	bodyLetter2 = 2 // of versions 1 and 2
	bodyRecord2 = 3 // of version 2
	bodyRecord  = 4
	bodyLetter  = 5
)

// marker begins every record. No UTF-8 text has its first byte, so text inside a damaged record is not taken
// for a record.
var marker = []byte{0xF5, 'R', 'k', 0xA7}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(b []byte) uint32 { return crc32.Checksum(b, castagnoli) }

// header is the head of a segment.
type header struct {
	version    uint16
	kind       kind
	first      uint64 // the position of the first record
	accepted   int64  // time of its acceptance, see nanos
	boot       uint64 // in which boot of the machine the segment was written; 0 = not known
	stored     int64  // time of the first record's storage, as uptime of the boot in nanoseconds
	connection string
	topic      string // empty for dead letters
}

// headerSize returns the size of the header in its file, in bytes.
func headerSize(connection, topic string) int64 {
	return int64(headerFixed + 2 + len(connection) + 2 + len(topic) + 4)
}

// append adds the header to b.
func (h *header) append(b []byte) []byte {
	start := len(b)
	b = append(b, magic...)
	b = binary.LittleEndian.AppendUint16(b, version)
	b = binary.LittleEndian.AppendUint16(b, uint16(h.kind))
	b = binary.LittleEndian.AppendUint32(b, uint32(headerSize(h.connection, h.topic)))
	b = binary.LittleEndian.AppendUint32(b, 0)
	b = binary.LittleEndian.AppendUint64(b, h.first)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.accepted))
	b = binary.LittleEndian.AppendUint64(b, h.boot)
	b = binary.LittleEndian.AppendUint64(b, uint64(h.stored))
	for _, name := range []string{h.connection, h.topic} {
		b = binary.LittleEndian.AppendUint16(b, uint16(len(name)))
		b = append(b, name...)
	}
	return binary.LittleEndian.AppendUint32(b, checksum(b[start:]))
}

var (
	errHeaderShort   = errors.New("the header is not complete")
	errHeaderDamaged = errors.New("the header is damaged")
)

// VersionError is the error for a file of a later version of this program.
type VersionError struct{ Version int }

func (e *VersionError) Error() string {
	return fmt.Sprintf("it has version %d of the format, this program knows %d", e.Version, version)
}

// parseHeader reads the header at the start of b and returns its size. A *VersionError means a whole header
// of a later version: its beginning and its checksum have fixed places.
func parseHeader(b []byte) (h header, size int, err error) {
	if len(b) < headerFixed1+8 {
		return h, 0, errHeaderShort
	}
	if string(b[:len(magic)]) != magic {
		return h, 0, errHeaderDamaged
	}
	size = int(binary.LittleEndian.Uint32(b[12:]))
	if size < headerFixed1+8 || size > maxHeaderBytes {
		return h, 0, errHeaderDamaged
	}
	if size > len(b) {
		return h, 0, errHeaderShort
	}
	if checksum(b[:size-4]) != binary.LittleEndian.Uint32(b[size-4:]) {
		return h, 0, errHeaderDamaged
	}
	fixed := headerFixed
	h.version = binary.LittleEndian.Uint16(b[8:])
	switch {
	case h.version == 1:
		fixed = headerFixed1
	case h.version < 1, h.version > version:
		return h, 0, &VersionError{int(h.version)}
	case size < headerFixed+8:
		return h, 0, errHeaderDamaged
	}
	h.kind = kind(binary.LittleEndian.Uint16(b[10:]))
	h.first = binary.LittleEndian.Uint64(b[20:])
	h.accepted, h.stored = int64(binary.LittleEndian.Uint64(b[28:])), unknownSince
	if fixed == headerFixed {
		h.boot, h.stored = binary.LittleEndian.Uint64(b[36:]), int64(binary.LittleEndian.Uint64(b[44:]))
	}
	rest := b[fixed : size-4]
	for _, name := range []*string{&h.connection, &h.topic} {
		if len(rest) < 2 || len(rest)-2 < int(binary.LittleEndian.Uint16(rest)) {
			return h, 0, errHeaderDamaged
		}
		n := int(binary.LittleEndian.Uint16(rest))
		*name, rest = string(rest[2:2+n]), rest[2+n:]
	}
	if len(rest) > 0 || h.first == 0 || h.first >= maxPosition {
		return h, 0, errHeaderDamaged
	}
	return h, size, nil
}

// sealFrame fills in the head of a frame after its body.
func sealFrame(frame []byte, position uint64) {
	copy(frame, marker)
	binary.LittleEndian.PutUint32(frame[8:], uint32(len(frame)-frameHead))
	binary.LittleEndian.PutUint64(frame[12:], position)
	binary.LittleEndian.PutUint32(frame[4:], checksum(frame[8:]))
}

// nanos returns a time in the form of the files: nanoseconds since 1970. The zero time is the smallest
// number.
func nanos(t time.Time) int64 {
	if t.IsZero() {
		return math.MinInt64
	}
	return t.UnixNano()
}

// timeOf is the reverse of nanos.
func timeOf(n int64) time.Time {
	if n == math.MinInt64 {
		return time.Time{}
	}
	return time.Unix(0, n)
}

func appendRecord(b []byte, r *record.Record, stored time.Duration) []byte {
	b = append(b, bodyRecord)
	b = binary.LittleEndian.AppendUint64(b, uint64(nanos(r.Accepted)))
	b = binary.LittleEndian.AppendUint64(b, uint64(stored))
	return r.AppendFields(b)
}

func appendLetter(b []byte, l *record.DeadLetter) []byte {
	b = append(b, bodyLetter)
	b = binary.LittleEndian.AppendUint64(b, uint64(nanos(l.At)))
	b = appendString(b, l.Record.Topic)
	b = appendString(b, l.Reason)
	b = appendString(b, l.Cause)
	b = binary.LittleEndian.AppendUint64(b, uint64(nanos(l.Record.Accepted)))
	return l.Record.AppendFields(b)
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// recordSize returns the number of bytes added by appendRecord.
func recordSize(r *record.Record) int64 { return 17 + int64(r.FieldsSize()) }

// letterSize returns the number of bytes added by appendLetter.
func letterSize(l *record.DeadLetter) int64 {
	return 17 + stringSize(l.Record.Topic) + stringSize(l.Reason) + stringSize(l.Cause) + int64(l.Record.FieldsSize())
}

func stringSize(s string) int64 { return uvarintSize(uint64(len(s))) + int64(len(s)) }

func uvarintSize(v uint64) int64 {
	n := int64(1)
	for ; v >= 0x80; v >>= 7 {
		n++
	}
	return n
}

var errBody = errors.New("the record's fields do not fit into it")

// parser decodes a body. After the first failure it returns zero values, and ok is false.
type parser struct {
	rest []byte
	bad  bool
}

func (p *parser) uint64() uint64 {
	if len(p.rest) < 8 {
		p.bad = true
		return 0
	}
	v := binary.LittleEndian.Uint64(p.rest)
	p.rest = p.rest[8:]
	return v
}

func (p *parser) uvarint() uint64 {
	v, n := binary.Uvarint(p.rest)
	if n <= 0 {
		p.bad, p.rest = true, nil
		return 0
	}
	p.rest = p.rest[n:]
	return v
}

// take returns the next n bytes, which share the body's memory and have no spare capacity.
func (p *parser) take(n uint64) []byte {
	if n > uint64(len(p.rest)) {
		p.bad, p.rest = true, nil
		return nil
	}
	b := p.rest[:n:n]
	p.rest = p.rest[n:]
	return b
}

func (p *parser) string() string { return string(p.take(p.uvarint())) }

// fields decodes the rest of a body into r.
func (p *parser) fields(r *record.Record) error {
	if n, ok := r.ReadFields(p.rest); p.bad || !ok || n < len(p.rest) {
		return errBody
	}
	return nil
}

// parseRecord decodes a record of topic from a body, with copies of its bytes. The reader sets Stored.
func parseRecord(topic string, body []byte) (*record.Record, error) {
	p := parser{rest: bytes.Clone(body)}
	r := &record.Record{Topic: topic}
	k := p.take(1)
	if p.bad {
		return nil, errBody
	}
	r.Accepted = timeOf(int64(p.uint64()))
	if k[0] == bodyRecord || k[0] == bodyRecord2 {
		p.uint64()
	}
	switch k[0] {
	case bodyRecord:
		return r, p.fields(r)
	case bodyRecord1, bodyRecord2:
		return r, p.fields2(r)
	}
	return nil, errBody
}

// parseLetter decodes a dead letter from a body, with copies of its bytes.
func parseLetter(body []byte) (record.DeadLetter, error) {
	p := parser{rest: bytes.Clone(body)}
	k := p.take(1)
	if p.bad || k[0] != bodyLetter && k[0] != bodyLetter2 {
		return record.DeadLetter{}, errBody
	}
	l := record.DeadLetter{At: timeOf(int64(p.uint64())), Record: &record.Record{Topic: p.string()}}
	l.Reason = p.string()
	l.Cause = p.string()
	l.Record.Accepted = timeOf(int64(p.uint64()))
	if k[0] == bodyLetter2 {
		return l, p.fields2(l.Record)
	}
	return l, p.fields(l.Record)
}

// acceptedOf reads only the time of acceptance from a body, in the form of nanos; 0 = unknown.
func acceptedOf(body []byte) int64 {
	if len(body) < 9 {
		return 0
	}
	return int64(binary.LittleEndian.Uint64(body[1:])) // for a dead letter, the time of its death, which is good enough
}

// storedOf reads only the time of storage from a body, in the form of header.stored.
func storedOf(body []byte) int64 {
	if len(body) < 17 || body[0] != bodyRecord && body[0] != bodyRecord2 {
		return unknownSince
	}
	return int64(binary.LittleEndian.Uint64(body[9:]))
}
