package spool

import (
	"encoding/binary"
)

// cell is what the file "settled" of a log says. There are two of them in it, written by turns, so that one that was
// not written whole leaves the other. They stand apart by as much as a disk writes at once at least.
type cell struct {
	sequence uint64 // grows by one with each that is written
	settled  uint64 // everything before this position has had its outcome
	next     uint64 // positions below this one have been given
}

const (
	cellMagic  = "RKS1"
	cellSize   = 32
	cellApart  = 512
	cellsBytes = cellApart + cellSize // the file's size once both have been written
)

func (c cell) append(b []byte) []byte {
	start := len(b)
	b = append(b, cellMagic...)
	b = append(b, 0, 0, 0, 0)
	b = binary.LittleEndian.AppendUint64(b, c.sequence)
	b = binary.LittleEndian.AppendUint64(b, c.settled)
	b = binary.LittleEndian.AppendUint64(b, c.next)
	binary.LittleEndian.PutUint32(b[start+4:], checksum(b[start+8:]))
	return b
}

func parseCell(b []byte) (c cell, ok bool) {
	if len(b) < cellSize || string(b[:4]) != cellMagic {
		return c, false
	}
	b = b[:cellSize]
	if checksum(b[8:]) != binary.LittleEndian.Uint32(b[4:]) {
		return c, false
	}
	c = cell{binary.LittleEndian.Uint64(b[8:]), binary.LittleEndian.Uint64(b[16:]), binary.LittleEndian.Uint64(b[24:])}
	return c, c.settled > 0 && c.settled <= c.next && c.next < positionMost
}

// parseCells gives the newer of the file's valid cells. ok = false: there is none.
func parseCells(b []byte) (newest cell, ok bool) {
	for off := 0; off < len(b); off += cellApart {
		if c, valid := parseCell(b[off:]); valid && (!ok || c.sequence > newest.sequence) {
			newest, ok = c, true
		}
	}
	return newest, ok
}
