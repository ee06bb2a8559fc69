package frame

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"math/bits"
	"sync/atomic"
	"unsafe"
)

// Layout of struct stage_slab (boundary/shared.h), the head of a slab: size, and offsets of members.
const (
	SlabHeadSize = 1216
	SlabLayout   = 8
	SlabFrames   = 12
	SlabSize     = 16
	SlabStage    = 24
	SlabFirst    = 32
	SlabLabel    = 40
	SlabWhole    = 192

	// SlabGranule is STAGE_GRANULE. Each bit from SlabWhole on marks a granule with the start of a complete
	// frame, counted from the first frame on.
	SlabGranule = 8

	// SlabBytes is STAGE_SLAB_BYTES: the size of a slab in the shared file.
	SlabBytes = 64 << 10
	// SlabMagic is STAGE_SLAB_MAGIC.
	SlabMagic = 0x42414c534b534552
	// SlabLayoutNumber is STAGE_SLAB_LAYOUT.
	SlabLayoutNumber = 2
)

// A Slab is the decoded head of a slab, with a reference to the slab's memory.
type Slab struct {
	Label string // of the stage that filled the slab
	Stage uint64 // number of the stage in its process, and
	First uint64 // number of the slab's first frame: together the order of slabs with one label
	Size  uint64 // of the slab's place, bytes

	// Lasting: the slab lies in a file of the staging folder, and the next start reads its unfinished frames.
	Lasting bool

	// From: Each skips frames that begin before this byte.
	From int

	// Memory is the slab; nil if the memory was too short.
	Memory []byte

	start int
	gone  bool // of a clone: the original was
}

// ErrNoSlab is the error for memory without a complete slab head.
var ErrNoSlab = errors.New("not a slab yet")

// ReadSlab reads the head of a slab of size bytes. memory may be shorter: after a read of the head alone,
// Each finds nothing. Arbitrary bytes and a truncated file cause an error at worst.
func ReadSlab(memory []byte, size int64) (*Slab, error) {
	if len(memory) < SlabHeadSize {
		return nil, ErrNoSlab
	}
	head := new([SlabWhole]byte) // a copy: other processes may write to memory
	if Faults(func() { copy(head[:], memory) }) {
		return nil, ErrGone
	}
	word := func(at int) uint64 { return binary.NativeEndian.Uint64(head[at:]) }
	switch magic := word(0); {
	case magic == 0:
		return nil, ErrNoSlab
	case magic != SlabMagic:
		return nil, fmt.Errorf("reading a slab: it begins with %#x", magic)
	}
	if layout := number(head[SlabLayout:]); layout != SlabLayoutNumber {
		return nil, fmt.Errorf("reading a slab: its layout is number %d, of another version", layout)
	}
	start, whole := number(head[SlabFrames:]), word(SlabSize)
	if size < 0 || whole != uint64(size) || start < SlabHeadSize || start%SlabGranule != 0 || start > whole {
		return nil, fmt.Errorf("reading a slab of %d bytes in a file of %d, with frames from %d on: %w", whole, size, start, errShort)
	}
	label, _, ok := bytes.Cut(head[SlabLabel:], []byte{0})
	if !ok {
		return nil, errors.New("reading a slab: its label has no end")
	}
	s := &Slab{Label: string(label), Stage: word(SlabStage), First: word(SlabFirst), Size: whole, start: int(start)}
	if whole <= uint64(len(memory)) {
		s.Memory = memory[:whole:whole]
	}
	return s, nil
}

// Each is Walk for the ready, unfinished frames of the slab. Frame.At counts from the beginning of the slab.
// Bytes between frames belong to writers that have not finished.
func (s *Slab) Each(visit func(f *Frame), damaged func(f *Frame, err error)) error {
	switch {
	case s.gone:
		return ErrGone
	case s.Memory == nil:
		return nil
	}
	var f Frame
	end := s.start
	for at := SlabWhole; at < SlabHeadSize; at += 8 {
		for word := binary.NativeEndian.Uint64(s.Memory[at:]); word != 0; word &= word - 1 {
			begin := s.start + ((at-SlabWhole)*8+bits.TrailingZeros64(word))*SlabGranule
			if begin < end {
				return fmt.Errorf("reading a frame at byte %d of %d, in the one before: %w", begin, len(s.Memory), errShort)
			}
			h, err := readHeader(s.Memory, begin)
			if err != nil {
				return err
			}
			if h.state == Ready && begin >= s.From {
				f.read(s.Memory, begin, h, visit, damaged)
			}
			end = begin + h.size
		}
	}
	return nil
}

// Waiting returns how many frames of the slab are ready and not done. Frames of a truncated file are not.
func (s *Slab) Waiting() int {
	n := 0
	count := func(*Frame) { n++ }
	_ = Faults(func() {
		_ = s.Each(count, func(f *Frame, _ error) { count(f) }) // an error after the last frame is for callers of Each
	})
	return n
}

// Clone copies the slab's memory. The copy is valid after the slab is gone. If the slab's file was truncated, Each
// of the clone returns ErrGone.
func (s *Slab) Clone() *Slab {
	c := *s
	c.Memory = nil
	c.gone = Faults(func() { c.Memory = bytes.Clone(s.Memory) })
	return &c
}

// State returns the state of the frame at byte at of the slab. The state must not be used after the slab's
// memory is gone.
func (s *Slab) State(at int) *atomic.Uint32 { return State(s.Memory, at) }

// Finish stores Done into the state of a frame. lasting: the frame lies in a file, which may be gone.
func Finish(state *atomic.Uint32, lasting bool) {
	if lasting {
		_ = Faults(func() { state.Store(Done) })
		return
	}
	state.Store(Done)
}

// State returns the state of the frame at byte at of memory, for the new owner's store of Done. The memory is
// aligned to 8 bytes.
func State(memory []byte, at int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&memory[at+HeaderState]))
}
