package frametest

import (
	"encoding/binary"

	"reskafka/internal/frame"
)

// slabStart is where the first frame stands in the files that Slab makes.
const slabStart = 256

// Slab is the file of a shared slab as the stage makes it, with these frames and room for as much again.
func Slab(label string, stage, first uint64, frames []byte) []byte {
	file := make([]byte, slabStart, slabStart+2*len(frames))
	words := map[int]uint64{
		0: frame.SlabMagic, frame.SlabSize: uint64(cap(file)), frame.SlabStage: stage, frame.SlabFirst: first,
		frame.SlabUsed: uint64(len(frames)),
	}
	for at, word := range words {
		binary.NativeEndian.PutUint64(file[at:], word)
	}
	binary.NativeEndian.PutUint32(file[frame.SlabLayout:], frame.SlabLayoutNumber)
	binary.NativeEndian.PutUint32(file[frame.SlabFrames:], slabStart)
	copy(file[frame.SlabLabel:frame.SlabHeadSize-1], label)
	return append(file, frames...)[:cap(file)]
}

// SetState says in what state the frame is that begins there.
func SetState(memory []byte, at int, state uint32) {
	binary.NativeEndian.PutUint32(memory[at+frame.HeaderState:], state)
}
