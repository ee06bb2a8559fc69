package frametest

import (
	"encoding/binary"

	"reskafka/internal/frame"
)

// slabStart is where the first frame stands in the files that Slab makes.
const slabStart = frame.SlabHeadSize + 64

// Slab is the file of a shared slab as the stage makes it, with these frames and room for as much again.
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

// SetWhole says whether the frame that begins there in the file of a slab is whole, or its writer has not finished.
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

// SetState says in what state the frame is that begins there.
func SetState(memory []byte, at int, state uint32) {
	binary.NativeEndian.PutUint32(memory[at+frame.HeaderState:], state)
}
