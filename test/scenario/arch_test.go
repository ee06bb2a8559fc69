package scenario

import (
	"os"
	"testing"
)

// TestEngine_32Bits_ServesAsteriskOf64Bits runs an engine of 32 bits behind modules of 64 bits. Both see the layouts of shared memory
// and of messages alike only if no field depends on the size of a word. RES_KAFKA_ENGINE32 is the engine, of the same build.
func TestEngine_32Bits_ServesAsteriskOf64Bits(t *testing.T) {
	program := os.Getenv("RES_KAFKA_ENGINE32")
	if program == "" {
		t.Skip("RES_KAFKA_ENGINE32 is not set: run this by `make test-arch`")
	}
	w := newHome(t, home{})
	path := w.ownEngine()
	content, err := os.ReadFile(program)
	w.must(err)
	w.must(os.Remove(path))
	w.must(os.WriteFile(path, content, 0o755))
	w.boot()
	w.lives(home{})
}
