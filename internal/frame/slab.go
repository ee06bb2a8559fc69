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

// Layout of struct stage_slab (boundary/shared.h), with which a slab begins: its size and the offsets of its members.
const (
	SlabHeadSize = 1216
	SlabLayout   = 8
	SlabFrames   = 12
	SlabSize     = 16
	SlabStage    = 24
	SlabFirst    = 32
	SlabLabel    = 40
	SlabWhole    = 192

	// SlabGranule is STAGE_GRANULE: each bit from SlabWhole on says whether a frame begins at one, counted from the first
	// frame on.
	SlabGranule = 8

	// SlabBytes is STAGE_SLAB_BYTES: the size of slabs that share a file.
	SlabBytes = 64 << 10
	// SlabMagic is STAGE_SLAB_MAGIC.
	SlabMagic = 0x42414c534b534552
	// SlabLayoutNumber is STAGE_SLAB_LAYOUT.
	SlabLayoutNumber = 2
)

// A Slab is what a slab holds. It refers to the slab's memory.
type Slab struct {
	Label string // of the stage that was filling it
	Stage uint64 // that stage's number in its process, and
	First uint64 // the number of the slab's first frame: they order the slabs of one label
	Size  uint64 // of its place, bytes

	// Lasting: the slab lies in a file of the staging folder, where the next start finds what is not done.
	Lasting bool

	// From: Each leaves out frames that begin before this byte.
	From int

	// Memory is the slab; nil when it was not there to the end.
	Memory []byte

	start int
}

// ErrNoSlab is the error for memory that holds no slab, or none yet.
var ErrNoSlab = errors.New("not a slab yet")

// ReadSlab reads the head of a slab that stands in size bytes. memory may be shorter, so that the head can be read alone:
// then Each finds nothing. Whatever the bytes are, the worst is an error.
func ReadSlab(memory []byte, size int64) (*Slab, error) {
	if len(memory) < SlabHeadSize {
		return nil, ErrNoSlab
	}
	head := new([SlabWhole]byte) // of its own: others may write to memory
	copy(head[:], memory)
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

// Each does as Walk for those frames of the slab that are ready and not done. Frame.At counts from the beginning of the
// slab. What lies between frames is what a writer had not finished.
func (s *Slab) Each(visit func(f *Frame), damaged func(f *Frame, err error)) error {
	if s.Memory == nil {
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
				if err := f.read(s.Memory, begin, h, visit, damaged); err != nil {
					return err
				}
			}
			end = begin + h.size
		}
	}
	return nil
}

// Waiting returns how many frames of the slab are ready and not done.
func (s *Slab) Waiting() int {
	n := 0
	count := func(*Frame) { n++ }
	_ = s.Each(count, func(f *Frame, _ error) { count(f) }) // where the frames end is an error for who reads them
	return n
}

// Clone copies the slab's memory, so that what it holds can be used when the slab is gone.
func (s *Slab) Clone() *Slab {
	c := *s
	c.Memory = bytes.Clone(s.Memory)
	return &c
}

// State returns the state of the frame that begins at byte at of the slab. It must not be used when the slab's memory is
// gone.
func (s *Slab) State(at int) *atomic.Uint32 { return State(s.Memory, at) }

// State returns the state of the frame that begins at byte at of memory, where whoever took it over stores Done. The memory
// is aligned to 8 bytes.
func State(memory []byte, at int) *atomic.Uint32 {
	return (*atomic.Uint32)(unsafe.Pointer(&memory[at+HeaderState]))
}
