package produce

import (
	"bytes"
	"crypto/rand"
	"fmt"
	"io"
	"testing"

	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kgo"
)

// TestLz4Frames checks that the library's reader reads the frames of compression, at the borders of blocks,
// for text and noise.
func TestLz4Frames(t *testing.T) {
	noise := make([]byte, 2*lz4BlockBytes+3)
	_, _ = rand.Read(noise)
	var text bytes.Buffer
	for i := 0; text.Len() < len(noise); i++ {
		fmt.Fprintf(&text, `{"uniqueid":"17.%d","disposition":"ANSWERED","billsec":%d}`, i, i%77)
	}
	c := &compression{codec: kgo.CodecLz4}
	before := []byte("before")
	for _, n := range []int{1, 100, lz4BlockBytes - 1, lz4BlockBytes, lz4BlockBytes + 1, len(noise)} {
		for name, src := range map[string][]byte{"noise": noise[:n], "text": text.Bytes()[:n]} {
			frame, ok := bytes.CutPrefix(c.append(before, src), before)
			if !ok {
				t.Fatalf("%d bytes of %s: what stood before is gone", n, name)
			}
			got, err := io.ReadAll(lz4.NewReader(bytes.NewReader(frame)))
			if err != nil || !bytes.Equal(got, src) {
				t.Errorf("%d bytes of %s: %d bytes come back, %v", n, name, len(got), err)
			}
			got, err = kgo.DefaultDecompressor().Decompress(frame, kgo.CodecLz4)
			if err != nil || !bytes.Equal(got, src) {
				t.Errorf("%d bytes of %s: a consumer gets %d bytes, %v", n, name, len(got), err)
			}
			if name == "text" && n > 1000 && len(frame) > n/2 {
				t.Errorf("%d bytes of text become %d", n, len(frame))
			}
			if len(frame) > n+32 {
				t.Errorf("%d bytes of %s become %d", n, name, len(frame))
			}
		}
	}
}
