package client

import (
	"encoding/binary"
	"fmt"
	"math"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// Limits of a broker's responses.
const (
	maxThrottle         = time.Minute
	MaxOffset           = 1 << 62  // far beyond every log, and far enough from the last number to count on
	maxResponseMemory   = 64 << 20 // of a decoded response, without records
	maxUnknownTags      = 1 << 16  // in a response; each becomes an entry of a map
	unknownTagMemory    = 300
	maxSetupResponse    = 256 << 10 // ApiVersions and the login, bytes
	maxResponse         = 16 << 20  // all other responses without records
	maxUnlistedResponse = 256 << 10 // responses without a layout
)

// largeResponse is the length of a response worth a collection before its arrival, twice the length of a
// fetch with default options. Buffers of earlier large responses are garbage by then. Without a collection,
// with ranges of free memory kept by Go, answers of 95 MiB in sequence took 304 MiB of memory instead of 142
// (TestDamage_Bombs_StayWithinMemory). A collection takes milliseconds, the transfer of such a response more.
const largeResponse = 32 << 20

// maxResponseSize returns the largest accepted response, or 0 for the client library's own limit.
func maxResponseSize(key kmsg.Key) int {
	switch key {
	case kmsg.Fetch:
		return 0
	case kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate:
		return maxSetupResponse
	}
	if _, ok := responseLayouts[key]; ok {
		return maxResponse
	}
	return maxUnlistedResponse
}

// responseCheck follows a response byte by byte on arrival, before the client library decodes it. Lengths and
// counts must fit the remaining bytes, and the decoded response must fit maxResponseMemory. Some values are
// corrected in place. responseCheck copies nothing, and allocates only for a new depth.
type responseCheck struct {
	left   int // bytes of the response to come
	skip   int // of these, bytes of no interest
	memory int
	tags   int
	stack  []level
	word   uint64 // of the present number
	have   int    // bytes of word
	batch  batchCheck
	epochs epochCheck

	throttle  time.Duration // requested by the broker, before the cut
	fallback  bool          // with the error UNSUPPORTED_VERSION the response has version 0
	keyless   bool          // the answer to ApiVersions has not listed Metadata so far
	unchecked bool          // the rest is not followed
}

// level is an open structure or array, or the open tags of a structure.
type level struct {
	layout *layout
	field  int // of layout, the next
	count  int // elements still to come, of an array; tags, behind the fields
	stage  stageOfLevel
	end    int  // value of left at the end of the enclosing tagged field
	tagged bool // the content of a tagged field
}

type stageOfLevel byte

const (
	inFields stageOfLevel = iota
	inTagCount
	inTagKey
	inTagLength
	inElements
)

// responseHeader is the part between the correlation number and the body of a flexible response.
var responseHeader = &layout{tagged: true}

// start begins a response of size bytes behind its correlation number.
func (c *responseCheck) start(size int, l *layout, headerTags bool) {
	*c = responseCheck{left: size, stack: c.stack[:0], unchecked: l == nil, batch: c.batch, epochs: c.epochs}
	c.batch.start(0)
	if l == nil {
		return
	}
	c.push(level{layout: l})
	if headerTags {
		c.push(level{layout: responseHeader, stage: inTagCount})
	}
}

func (c *responseCheck) push(l level) {
	if n := len(c.stack); n > 0 && !l.tagged {
		l.end = c.stack[n-1].end
	}
	c.stack = append(c.stack, l)
}

// feed follows the next bytes, with corrections in place. An error is the reason of a refusal.
func (c *responseCheck) feed(p []byte) error {
	for len(p) > 0 {
		if c.unchecked {
			c.left -= len(p)
			return nil
		}
		if c.skip > 0 {
			n := min(c.skip, len(p))
			c.skip, c.left, p = c.skip-n, c.left-n, p[n:]
			continue
		}
		n, err := c.step(p)
		if err != nil {
			return err
		}
		c.left, p = c.left-n, p[n:]
	}
	if c.left > 0 {
		return nil
	}
	c.unwind()
	if !c.unchecked && (len(c.stack) > 0 || c.have > 0 || c.skip > 0) {
		return fmt.Errorf("it ends in the middle")
	}
	if c.keyless {
		return fmt.Errorf("it does not list the request for metadata")
	}
	return nil
}

// unwind leaves complete levels.
func (c *responseCheck) unwind() {
	for len(c.stack) > 0 && c.have == 0 && c.skip == 0 {
		l := &c.stack[len(c.stack)-1]
		if !(l.stage == inFields && l.field == len(l.layout.fields) && !l.layout.tagged || l.stage == inElements && l.count == 0 ||
			l.stage == inTagKey && l.count == 0) {
			return
		}
		c.stack = c.stack[:len(c.stack)-1]
	}
}

// room returns the number of remaining bytes of the innermost level, including the present byte.
func (c *responseCheck) room() int { return c.left - c.stack[len(c.stack)-1].end }

// step makes a step with the next bytes and returns the number of used bytes.
func (c *responseCheck) step(p []byte) (used int, err error) {
	if c.batch.left > 0 {
		return c.batch.feed(p), nil
	}
	if len(c.stack) == 0 { // a newer broker may say more
		c.unchecked = true
		return 0, nil
	}
	l := &c.stack[len(c.stack)-1]
	switch l.stage {
	case inFields:
		if l.field == len(l.layout.fields) {
			if !l.layout.tagged {
				c.pop()
				return 0, nil
			}
			l.stage = inTagCount
			return 0, nil
		}
		return c.readField(l, p)
	case inElements:
		if l.count == 0 {
			c.pop()
			return 0, nil
		}
		l.count--
		c.push(level{layout: l.layout})
		return 0, nil
	case inTagCount:
		count, n, ok, err := c.uvarint(p)
		if !ok {
			return n, err
		}
		if count > (c.room()-n)/2 {
			return 0, fmt.Errorf("it claims %d tagged fields in %d bytes", count, c.room()-n)
		}
		l.count, l.stage = count, inTagKey
		return n, nil
	case inTagKey:
		if l.count == 0 {
			c.pop()
			return 0, nil
		}
		key, n, ok, err := c.uvarint(p)
		if ok {
			l.count--
			l.field, l.stage = key, inTagLength
		}
		return n, err
	}
	return c.readTag(l, p)
}

// pop leaves a level. The rest of a tagged field behind its content is skipped.
func (c *responseCheck) pop() {
	n := len(c.stack) - 1
	if c.stack[n].tagged {
		c.skip = c.left - c.stack[n].end
	}
	c.stack = c.stack[:n]
}

// readTag reads the length of a tagged field and enters fields decoded by the client library.
func (c *responseCheck) readTag(l *level, p []byte) (used int, err error) {
	length, n, ok, err := c.uvarint(p)
	if !ok {
		return n, err
	}
	room := c.room() - n
	if length > room {
		return 0, fmt.Errorf("it claims a tagged field of %d bytes in %d", length, room)
	}
	l.stage = inTagKey
	content := l.layout.known[uint32(l.field)]
	if content == nil {
		if c.tags++; c.tags > maxUnknownTags {
			return 0, fmt.Errorf("it has more than %d tagged fields", maxUnknownTags)
		}
		c.skip = length
		return n, c.spend(unknownTagMemory)
	}
	if length > 0 {
		c.push(level{layout: content, end: c.left - n - length, tagged: true})
	}
	return n, nil
}

// spend counts memory of the decoded response.
func (c *responseCheck) spend(bytes int) error {
	if c.memory += bytes; c.memory > maxResponseMemory {
		return fmt.Errorf("it would take more than %d MiB of memory", maxResponseMemory>>20)
	}
	return nil
}

// readField makes a step in the next field of a structure.
func (c *responseCheck) readField(l *level, p []byte) (used int, err error) {
	f := &l.layout.fields[l.field]
	switch f.kind {
	case 't':
		return c.readThrottle(l, p)
	case 'c':
		return c.readEpochError(l, p)
	case 'e':
		return c.readEpochEnd(l, p)
	case 'o', 'p', 'k':
		return c.readNumber(l, f, p)
	case 'f':
		return c.readReplica(l, p)
	}
	if c.fallback {
		return c.readError(l, p)
	}
	if f.size > 0 {
		if f.size > c.room() {
			return 0, fmt.Errorf("it ends in the middle")
		}
		c.skip = f.size
		l.field++
		return 0, nil
	}
	length, n, ok, err := c.length(f, p)
	if !ok {
		return n, err
	}
	l.field++
	room := c.room() - n
	switch {
	case length <= 0 && f.kind == 'q':
		return 0, fmt.Errorf("it leaves out the name of a topic")
	case length <= 0: // null or empty
		return n, nil
	case f.kind == '[':
		if length > room/max(f.element.bytes, 1) {
			return 0, fmt.Errorf("it claims an array of %d elements in %d bytes", length, room)
		}
		if err := c.spend(length * f.element.memory); err != nil {
			return 0, err
		}
		c.push(level{layout: f.element, count: length, stage: inElements})
		return n, nil
	case length > room:
		return 0, fmt.Errorf("it claims %d bytes in %d", length, room)
	case f.kind == 'r':
		c.batch.start(length)
		return n, nil
	}
	c.skip = length
	return n, nil
}

// readError reads the error at the front of the answer to ApiVersions. A broker without the requested version
// answers in version 0.
func (c *responseCheck) readError(l *level, p []byte) (used int, err error) {
	value, n, ok, err := c.number(p, 2)
	if !ok {
		return n, err
	}
	c.fallback = false
	c.keyless = value == 0
	if value&0xff == uint64(kerr.UnsupportedVersion.Code) {
		l.layout, _ = layoutOf(kmsg.ApiVersions, 0)
	}
	l.field++
	return n, nil
}

// length reads the length of a string, of bytes or of an array; negative = null.
func (c *responseCheck) length(f *field, p []byte) (length, used int, ok bool, err error) {
	switch {
	case f.compact:
		length, used, ok, err = c.uvarint(p)
		return length - 1, used, ok, err
	case f.kind == 's', f.kind == 'q':
		value, n, ok, err := c.number(p, 2)
		return int(int16(value)), n, ok, err
	}
	value, n, ok, err := c.number(p, 4)
	return int(int32(value)), n, ok, err
}

// number reads a number of size bytes.
func (c *responseCheck) number(p []byte, size int) (value uint64, used int, ok bool, err error) {
	if c.have == 0 && size > c.room() {
		return 0, 0, false, fmt.Errorf("it ends in the middle")
	}
	for used < len(p) && c.have < size {
		c.word = c.word<<8 | uint64(p[used])
		c.have++
		used++
	}
	if c.have < size {
		return 0, used, false, nil
	}
	value, c.word, c.have = c.word, 0, 0
	return value, used, true, nil
}

// uvarint reads a number of up to 32 bits, with 7 bits in each byte.
func (c *responseCheck) uvarint(p []byte) (value, used int, ok bool, err error) {
	if c.room() <= 0 {
		return 0, 0, false, fmt.Errorf("it ends in the middle")
	}
	for used < len(p) {
		b := p[used]
		used++
		c.word |= uint64(b&0x7f) << (7 * c.have)
		c.have++
		if b < 0x80 {
			number := uint32(c.word)
			c.word, c.have = 0, 0
			if uint64(number) > math.MaxInt { // on 32 bits, where it would be negative and pass every limit
				return 0, used, false, fmt.Errorf("it claims %d", number)
			}
			return int(number), used, true, nil
		}
		if c.have == 5 || used >= c.room() {
			return 0, used, false, fmt.Errorf("it has a number without an end")
		}
	}
	return 0, used, false, nil
}

// readThrottle reads a throttle time and clears the bytes in place: see pause.
func (c *responseCheck) readThrottle(l *level, p []byte) (used int, err error) {
	value, n, ok, err := c.number(p, 4)
	if err != nil {
		return n, err
	}
	clear(p[:n])
	if ok {
		c.throttle = max(c.throttle, time.Duration(int32(value))*time.Millisecond)
		l.field++
	}
	return n, nil
}

// readNumber reads an offset or the number of a partition.
func (c *responseCheck) readNumber(l *level, f *field, p []byte) (used int, err error) {
	value, n, ok, err := c.number(p, f.size)
	if !ok {
		return n, err
	}
	l.field++
	switch {
	case f.kind == 'p':
		c.batch.partition = int32(value)
	case f.kind == 'k':
		c.keyless = c.keyless && kmsg.Key(value) != kmsg.Metadata
	case int64(value) > MaxOffset:
		return 0, fmt.Errorf("it has the offset %d, which no log reaches", int64(value))
	}
	return n, nil
}

// readReplica reads the replica preferred by a broker, and replaces it with none. Brokers choose a replica by
// the client's rack, and no option sets a rack. The client library stays with a former replica:
// NOT_LEADER_OR_FOLLOWER does not lead the library back to the leader.
func (c *responseCheck) readReplica(l *level, p []byte) (used int, err error) {
	if c.have == 0 && c.room() < 4 {
		return 0, fmt.Errorf("it ends in the middle")
	}
	for used < len(p) && c.have < 4 {
		p[used] = 0xff
		c.have++
		used++
	}
	if c.have == 4 {
		c.word, c.have = 0, 0
		l.field++
	}
	return used, nil
}

// batchCheck follows the headers of the record batches of a partition. In an impossible batch, a byte of the
// header is changed to invalidate the checksum. The client library then refuses the batch without decoding
// it, and other partitions of the response are not affected.
type batchCheck struct {
	left       int // bytes of the partition's batches to come
	skip       int
	header     []byte
	partition  int32
	maxRecords int // in a batch
	refused    []error
}

const (
	batchPrefix    = 17 // up to the number of the format
	oldBatchHeader = 18 // of formats 0 and 1, including the attributes
	batchHeader    = 61
	minRecordBytes = 7
)

func (b *batchCheck) start(size int) { b.left, b.skip, b.header = size, 0, b.header[:0] }

// feed follows the next bytes and returns how many belong to the batches.
func (b *batchCheck) feed(p []byte) (used int) {
	p = p[:min(len(p), b.left)]
	b.left -= len(p)
	for used < len(p) {
		if b.skip > 0 {
			n := min(b.skip, len(p)-used)
			b.skip -= n
			used += n
			continue
		}
		need := batchPrefix
		if len(b.header) >= batchPrefix {
			need = batchHeader
			if b.header[batchPrefix-1] < 2 {
				need = oldBatchHeader
			}
		}
		n := min(need-len(b.header), len(p)-used)
		b.header = append(b.header, p[used:used+n]...)
		used += n
		if len(b.header) < need || need == batchPrefix {
			continue
		}
		if err := b.fault(); err != nil {
			p[used-1] ^= 0xff
			b.refused = append(b.refused, err)
		}
		rest := int(int32(binary.BigEndian.Uint32(b.header[8:]))) + 12 - need
		if rest < 0 { // refused by the library itself, with all later batches
			rest = b.left + len(p) - used
		}
		b.skip, b.header = rest, b.header[:0]
	}
	return used
}

// fault returns the impossible claim in the header of a batch, or nil.
func (b *batchCheck) fault() error {
	h := b.header
	offset := int64(binary.BigEndian.Uint64(h))
	length, magic := int(int32(binary.BigEndian.Uint32(h[8:]))), h[batchPrefix-1]
	if magic < 2 {
		if offset > MaxOffset || offset < 0 {
			return b.faultf(offset, "its offset is one that no log reaches")
		}
		return nil
	}
	attributes := binary.BigEndian.Uint16(h[21:])
	delta, records := int32(binary.BigEndian.Uint32(h[23:])), int(int32(binary.BigEndian.Uint32(h[57:])))
	bytes := max(length-(batchHeader-12), 0)
	switch {
	case offset < 0 || delta < 0 || offset > MaxOffset-int64(delta):
		return b.faultf(offset, "it reaches an offset that no log has")
	case records < 0:
		return b.faultf(offset, "it claims %d records", records)
	case attributes&7 == 0 && records > bytes/minRecordBytes:
		return b.faultf(offset, "it claims %d records in %d bytes", records, bytes)
	case b.maxRecords > 0 && records > b.maxRecords:
		return b.faultf(offset, "it claims %d records, more than %d, which message_max_bytes allows", records, b.maxRecords)
	}
	return nil
}

func (b *batchCheck) faultf(offset int64, format string, args ...any) error {
	why := fmt.Errorf(format, args...)
	return WithSentence(why, batchRefused, fmt.Sprint(offset), fmt.Sprint(b.partition), why.Error())
}
