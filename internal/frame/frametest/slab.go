package frametest

import (
	"encoding/binary"

	"reskafka/internal/frame"
)

// slabStart is the offset of the first frame in files of Slab.
const slabStart = frame.SlabHeadSize + 64

// Slab returns the file of a shared slab in the stage's layout, with these frames and free space of the same
// size.
func Slab(label string, stage, first uint64, frames []byte) []byte {
	file := make([]byte, slabStart, slabStart+2*len(frames))
	words := map[int]uint64{
		0: frame.SlabMagic, frame.SlabSize: uint64(cap(file)), frame.SlabStage: stage, frame.SlabFirst: first,
	}
	for at, word := range words {
		binary.NativeEndian.PutUint64(file[at:], word)
	}
	binary.NativeEndian.PutUint32(file[frame.SlabLayout:], frame.SlabLayoutNumber)
	binary.NativeEndian.PutUint32(file[frame.SlabFrames:], slabStart)
	copy(file[frame.SlabLabel:frame.SlabWhole-1], label)
	for at := 0; at < len(frames); at += int(binary.NativeEndian.Uint32(frames[at:])) {
		SetWhole(file, slabStart+at, true)
	}
	return append(file, frames...)[:cap(file)]
}

// SetWhole marks the frame at byte at of a slab's file as complete, or as unfinished by its writer.
func SetWhole(file []byte, at int, whole bool) {
	granule := (at - slabStart) / frame.SlabGranule
	word := file[frame.SlabWhole+granule/64*8:]
	bit := uint64(1) << (granule % 64)
	if whole {
		binary.NativeEndian.PutUint64(word, binary.NativeEndian.Uint64(word)|bit)
	} else {
		binary.NativeEndian.PutUint64(word, binary.NativeEndian.Uint64(word)&^bit)
	}
}

// SetState sets the state of the frame at byte at.
func SetState(memory []byte, at int, state uint32) {
	binary.NativeEndian.PutUint32(memory[at+frame.HeaderState:], state)
}
