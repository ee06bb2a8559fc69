package produce

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"slices"
	"sync"

	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config"
)

// compression compresses record batches with a codec. It is safe for concurrent use.
type compression struct {
	codec   kgo.CompressionCodecType
	library kgo.Compressor // nil for lz4's fast mode
	blocks  sync.Pool      // *lz4.Compressor
	buffers sync.Pool      // *bytes.Buffer
}

// newCompression returns nil for a connection without compression.
func newCompression(c *config.Connection) (*compression, error) {
	kind, library := codec(c)
	if kind == kgo.CodecNone {
		return nil, nil
	}
	z := &compression{codec: kind}
	if kind == kgo.CodecLz4 && c.CompressionLevel < 3 { // the fast mode, as below librdkafka's 3
		return z, nil
	}
	var err error
	if z.library, err = kgo.DefaultCompressor(library); err != nil {
		return nil, fmt.Errorf("setting up compression: %w", err)
	}
	return z, nil
}

// append appends src compressed to to.
func (z *compression) append(to, src []byte) []byte {
	if z.library == nil {
		return z.appendLz4(to, src)
	}
	buffer, _ := z.buffers.Get().(*bytes.Buffer)
	if buffer == nil {
		buffer = new(bytes.Buffer)
	}
	defer z.buffers.Put(buffer)
	buffer.Reset()
	small, _ := z.library.Compress(buffer, src)
	return append(to, small...)
}

// The frame's header: the magic number; version 1, independent blocks, required by Kafka's own client; blocks
// of 256 KiB at most; and the second byte of the XXH32 of these two bytes. The frame has no checksums,
// because Kafka has its own.
var lz4Header = []byte{0x04, 0x22, 0x4d, 0x18, 0x60, 0x50, 0xfb}

const (
	lz4BlockBytes = 256 << 10
	lz4Stored     = 1 << 31 // flag in a block's length: not compressed
)

// appendLz4 writes lz4 frames itself, and compresses blocks in place. The library's writer first copies all
// bytes to blocks of 4 MB, and allocates new blocks after each garbage collection.
func (z *compression) appendLz4(to, src []byte) []byte {
	c, _ := z.blocks.Get().(*lz4.Compressor)
	if c == nil {
		c = new(lz4.Compressor)
	}
	defer z.blocks.Put(c)
	out := append(slices.Grow(to, len(src)+len(src)/lz4BlockBytes*4+64), lz4Header...)
	for len(src) > 0 {
		block := src[:min(len(src), lz4BlockBytes)]
		src = src[len(block):]
		at := len(out)
		room := out[at+4 : at+4+len(block)]
		n, err := c.CompressBlock(block, room)
		if err != nil || n == 0 { // incompressible
			n = copy(room, block)
			out = binary.LittleEndian.AppendUint32(out, uint32(n)|lz4Stored)
		} else {
			out = binary.LittleEndian.AppendUint32(out, uint32(n))
		}
		out = out[:at+4+n]
	}
	return append(out, 0, 0, 0, 0)
}
