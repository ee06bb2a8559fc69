package consume

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"runtime"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config"
	"reskafka/internal/kafka/client"
)

// decompressedBudget is the total size of the fetched batches of all consumers after decompression, bytes.
const decompressedBudget = 96 << 20

// headerCost is the client's allocation for each header, beyond the decompressed bytes.
const headerCost = 40

// errNoBudget is the error of decompress while undelivered records fill the budget. The batch stays at the
// broker and is fetched again.
var errNoBudget = errors.New("too many decompressed records wait for delivery")

// memoryBudget counts memory in use. It is safe for concurrent use.
type memoryBudget struct {
	limit int64
	used  atomic.Int64
}

// decompressed is the budget of all consumers of the process.
var decompressed = &memoryBudget{limit: decompressedBudget}

// take charges cost bytes to the budget until data is garbage-collected. take returns false, without a
// charge, if the budget is exceeded; force charges anyway.
func (b *memoryBudget) take(data []byte, cost int64, force bool) bool {
	if used := b.used.Add(cost); used > b.limit && !force {
		b.used.Add(-cost)
		return false
	}
	runtime.AddCleanup(&data[0], func(cost int64) { b.used.Add(-cost) }, cost)
	return true
}

// decompressor decompresses the fetched batches of one consumer, within the budgets. It implements
// kgo.Decompressor and is safe for concurrent use.
type decompressor struct {
	batch   int           // budget of a single batch
	total   *memoryBudget // of all
	waiting atomic.Bool   // the consumer's queue is empty: a batch may exceed the total
	zstd    sync.Pool     // *zstd.Decoder
}

func newDecompressor(c *config.Connection, total *memoryBudget) *decompressor {
	return &decompressor{batch: client.BatchBudget(c), total: total}
}

// Decompress implements kgo.Decompressor. After kgo.ErrMaxDecompress the client stops to fetch a partition
// until its offset is set; after any other error the client fetches the batch again.
func (d *decompressor) Decompress(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	out, err := d.expand(src, codec)
	if err != nil || len(out) == 0 {
		return nil, err
	}
	cost := int64(cap(out)) + recordsCost(out)
	if cost > int64(d.batch) {
		return nil, kgo.ErrMaxDecompress
	}
	if !d.total.take(out, cost, false) {
		if !d.waiting.CompareAndSwap(true, false) {
			return nil, errNoBudget
		}
		d.total.take(out, cost, true)
	}
	return out, nil
}

func (d *decompressor) expand(src []byte, codec kgo.CompressionCodecType) ([]byte, error) {
	switch codec {
	case kgo.CodecNone:
		return src, nil
	case kgo.CodecGzip:
		r, _ := gzipReaders.Get().(*gzip.Reader)
		if r == nil {
			r = new(gzip.Reader)
		}
		defer gzipReaders.Put(r)
		if err := r.Reset(bytes.NewReader(src)); err != nil {
			return nil, err
		}
		return d.readAll(r)
	case kgo.CodecSnappy:
		return d.snappy(src)
	case kgo.CodecLz4:
		r, _ := lz4Readers.Get().(*lz4.Reader)
		if r == nil {
			r = lz4.NewReader(nil)
		}
		defer lz4Readers.Put(r)
		r.Reset(bytes.NewReader(src))
		return d.readAll(r)
	case kgo.CodecZstd:
		return d.expandZstd(src)
	}
	return nil, fmt.Errorf("unknown compression codec %d", codec)
}

var (
	gzipReaders sync.Pool // *gzip.Reader
	lz4Readers  sync.Pool // *lz4.Reader
	smallSpaces sync.Pool // *[]byte of smallSpace bytes
)

// Sizes of the buffer for a batch of unknown size. The result is then copied, so the buffer is free for the
// next batch.
const (
	smallSpace  = 4 << 20
	mediumSpace = 16 << 20
)

// readAll reads r to the end, within the budget of a batch.
func (d *decompressor) readAll(r io.Reader) ([]byte, error) {
	small, _ := smallSpaces.Get().(*[]byte)
	if small == nil {
		space := make([]byte, smallSpace)
		small = &space
	}
	defer smallSpaces.Put(small)
	used := 0
	for space := *small; ; {
		n, err := r.Read(space[used:])
		used += n
		switch {
		case err == io.EOF:
			return slices.Clone(space[:used]), nil
		case err != nil:
			return nil, err
		case used < len(space):
		case used > d.batch:
			return nil, kgo.ErrMaxDecompress
		case used < mediumSpace:
			space = append(make([]byte, 0, mediumSpace), space...)[:mediumSpace]
		default:
			space = append(make([]byte, 0, d.batch+1), space...)[:d.batch+1]
		}
	}
}

// expandZstd lets the decoder allocate only for frames with a known size, because the decoder grows its
// output in small steps.
func (d *decompressor) expandZstd(src []byte) ([]byte, error) {
	decoder, _ := d.zstd.Get().(*zstd.Decoder)
	if decoder == nil {
		var err error
		if decoder, err = zstd.NewReader(nil, zstd.WithDecoderLowmem(true), zstd.WithDecoderConcurrency(1),
			zstd.WithDecoderMaxMemory(uint64(d.batch))); err != nil {
			return nil, err
		}
	}
	defer d.zstd.Put(decoder)
	var header zstd.Header
	var out []byte
	err := header.Decode(src)
	switch {
	case err != nil:
		return nil, err
	case header.HasFCS:
		out, err = decoder.DecodeAll(src, nil)
	default:
		if err = decoder.Reset(bytes.NewReader(src)); err == nil {
			out, err = d.readAll(decoder)
		}
	}
	if errors.Is(err, zstd.ErrDecoderSizeExceeded) || errors.Is(err, zstd.ErrWindowSizeExceeded) {
		return nil, fmt.Errorf("%w: %w", kgo.ErrMaxDecompress, err)
	}
	return out, err
}

// The framing of Java's snappy streams: a header, then blocks, each after its length.
var xerialMagic = []byte{130, 'S', 'N', 'A', 'P', 'P', 'Y', 0}

const xerialHeaderBytes = 16

var errXerial = errors.New("malformed snappy stream")

// snappy checks the size of the batch before any allocation.
func (d *decompressor) snappy(src []byte) ([]byte, error) {
	if len(src) <= xerialHeaderBytes || !bytes.HasPrefix(src, xerialMagic) {
		size, err := s2.DecodedLen(src)
		switch {
		case err != nil:
			return nil, err
		case size > d.batch:
			return nil, kgo.ErrMaxDecompress
		}
		return s2.Decode(nil, src)
	}
	total := 0
	if err := xerialBlocks(src, func(block []byte, size int) error {
		if size > d.batch-total { // a sum would overflow an int of 32 bits
			return kgo.ErrMaxDecompress
		}
		total += size
		return nil
	}); err != nil {
		return nil, err
	}
	out := make([]byte, total)
	rest := out
	err := xerialBlocks(src, func(block []byte, size int) error {
		_, err := s2.Decode(rest[:size], block)
		rest = rest[size:]
		return err
	})
	return out, err
}

// xerialBlocks calls visit with each compressed block of a stream and the block's decompressed size.
func xerialBlocks(src []byte, visit func(block []byte, size int) error) error {
	for rest := src[xerialHeaderBytes:]; len(rest) > 0; {
		if len(rest) < 4 {
			return errXerial
		}
		n := int64(binary.BigEndian.Uint32(rest))
		if rest = rest[4:]; n > int64(len(rest)) {
			return errXerial
		}
		size, err := s2.DecodedLen(rest[:n])
		if err != nil {
			return err
		}
		if err := visit(rest[:n], size); err != nil {
			return err
		}
		rest = rest[n:]
	}
	return nil
}

// smallestMessage is the size of a message in the formats before record batches, including offset and size.
const smallestMessage = 26

// recordsCost returns the client's memory for the records in data, beyond data itself. Bytes outside record
// batches count as messages of older formats.
func recordsCost(data []byte) (cost int64) {
	for len(data) > 0 {
		size, used := varint(data)
		if used <= 0 || size < 0 || size > int64(len(data)-used) {
			return cost + int64(len(data)/smallestMessage)*client.RecordCost
		}
		end := used + int(size)
		cost += client.RecordCost + headerCost*int64(headerCount(data[used:end]))
		data = data[end:]
	}
	return cost
}

// varint is binary.Varint, with numbers of one and two bytes decoded in place: most lengths of records have no more.
func varint(b []byte) (int64, int) {
	n, u := 1, uint64(0)
	switch {
	case len(b) > 0 && b[0] < 0x80:
		u = uint64(b[0])
	case len(b) > 1 && b[1] < 0x80:
		n, u = 2, uint64(b[0]&0x7f)|uint64(b[1])<<7
	default:
		return binary.Varint(b)
	}
	return int64(u>>1) ^ -int64(u&1), n // zigzag
}

// headerCount returns the number of headers claimed by a record without its length prefix, at most one for
// each byte.
func headerCount(record []byte) int {
	at := 1       // behind the attributes
	for range 2 { // differences of time and offset
		for at < len(record) && record[at] >= 0x80 {
			at++
		}
		at++
	}
	for range 2 { // key and value
		if at >= len(record) {
			return 0
		}
		size, used := varint(record[at:])
		if used <= 0 || size > int64(len(record)-at-used) {
			return 0
		}
		at += used + int(max(size, 0))
	}
	if at >= len(record) || record[at] == 0 {
		return 0
	}
	count, _ := varint(record[at:])
	return int(min(max(count, 0), int64(len(record))))
}
