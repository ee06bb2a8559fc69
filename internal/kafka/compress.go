package kafka

import (
	"bytes"
	"encoding/binary"
	"sync"

	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config"
)

// compressor is a codec of which the client library's own use costs more than it has to; nil = use that. It is for one
// client.
func compressor(c *config.Connection) kgo.Compressor {
	if c.CompressionCodec == "lz4" && c.CompressionLevel < 3 { // the fast mode, as below librdkafka's 3
		return &lz4Blocks{}
	}
	return nil
}

// lz4Blocks writes the frames of lz4 itself, from blocks that are compressed where they lie. The library's writer copies
// all to blocks of 4 MB first, which it makes anew after each collection of garbage.
type lz4Blocks struct{ pool sync.Pool }

// The frame's header: the magic number; version 1, blocks that do not depend on each other, which Kafka's own client
// demands; blocks of 256 KiB at most; and the second byte of the XXH32 of these two bytes. There are no checksums: Kafka has its own.
var lz4Header = []byte{0x04, 0x22, 0x4d, 0x18, 0x60, 0x50, 0xfb}

const (
	lz4BlockBytes = 256 << 10
	lz4Stored     = 1 << 31 // flag of a block's length: it is not compressed
)

// Compress implements kgo.Compressor.
func (l *lz4Blocks) Compress(dst *bytes.Buffer, src []byte, _ ...kgo.CompressFlag) ([]byte, kgo.CompressionCodecType) {
	c, _ := l.pool.Get().(*lz4.Compressor)
	if c == nil {
		c = new(lz4.Compressor)
	}
	defer l.pool.Put(c)
	dst.Grow(len(src) + len(src)/lz4BlockBytes*4 + 64)
	out := append(dst.AvailableBuffer(), lz4Header...)
	for len(src) > 0 {
		block := src[:min(len(src), lz4BlockBytes)]
		src = src[len(block):]
		at := len(out)
		room := out[at+4 : at+4+len(block)]
		n, err := c.CompressBlock(block, room)
		if err != nil || n == 0 { // it does not become smaller
			n = copy(room, block)
			out = binary.LittleEndian.AppendUint32(out, uint32(n)|lz4Stored)
		} else {
			out = binary.LittleEndian.AppendUint32(out, uint32(n))
		}
		out = out[:at+4+n]
	}
	return append(out, 0, 0, 0, 0), kgo.CodecLz4
}
