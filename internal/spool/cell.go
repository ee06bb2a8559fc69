package spool

import (
	"encoding/binary"
)

// cell is the content of a log's file "settled". The file has two cells, written in turn, so a torn write
// leaves the other cell. Their distance is at least a disk's unit of writing.
type cell struct {
	sequence uint64 // incremented by each write
	settled  uint64 // all records before this position have their outcome
	next     uint64 // positions below this are used
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
	return c, c.settled > 0 && c.settled <= c.next && c.next < maxPosition
}

// parseCells returns the newer valid cell of the file. ok = false: there is none.
func parseCells(b []byte) (newest cell, ok bool) {
	for off := 0; off < len(b); off += cellApart {
		if c, valid := parseCell(b[off:]); valid && (!ok || c.sequence > newest.sequence) {
			newest, ok = c, true
		}
	}
	return newest, ok
}
