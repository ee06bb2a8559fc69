package spool

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
)

const (
	minWindow = 16 << 10  // bytes read at once, at least and at most; a larger record is read as a whole
	maxWindow = 256 << 10 //
	pageSize  = 4096      // unit of skipping around an unreadable place
)

// frame is a record in its file. body is valid until the scanner's next step.
type frame struct {
	position uint64
	offset   int64
	body     []byte
}

func (f *frame) size() int64 { return frameHead + int64(len(f.body)) }

// scanner finds the valid records of a segment one after another, for any bytes: it skips invalid bytes up to
// the next place with valid marker, checksum and position. It never panics, and its effort is bounded by a
// multiple of the file's size.
type scanner struct {
	file io.ReaderAt
	size int64 // of the examined part of the file
	off  int64 // where the next record is expected

	// Positions grow within a segment; positions below low or from high on are foreign.
	low, high uint64

	window int
	buf    []byte // the file's bytes from at on
	at     int64

	budget  int64 // bytes that may still be examined in search of the next record after damage
	skipped func(offset, length int64)
	err     error // why the whole file is unreadable; unreadable places count as damage
}

// cannotOpen is an error of opening the file. It ends a scan and is no damage.
type cannotOpen struct{ error }

func (e cannotOpen) Unwrap() error { return e.error }

// begin starts on a file of size bytes at offset off. buf is kept from before.
func (s *scanner) begin(file io.ReaderAt, size, off int64, low, high uint64) {
	s.file, s.size, s.off, s.low, s.high = file, size, off, low, high
	s.at, s.buf, s.err = 0, s.buf[:0], nil
	s.budget = 16*size + 1<<20
	s.skipped = nil
	if s.window == 0 {
		s.window = maxWindow
	}
}

// next returns the next valid record. ok = false is the end of the file, or err.
func (s *scanner) next() (f frame, ok bool) {
	if s.off >= s.size || s.err != nil {
		return f, false
	}
	if f, ok = s.frameAt(s.off); ok {
		s.off += f.size()
		s.low = f.position + 1
		return f, true
	}
	start := s.off
	f, ok = s.resync()
	if s.err != nil {
		return frame{}, false
	}
	end := s.size
	if ok {
		end = f.offset
		s.off = f.offset + f.size()
		s.low = f.position + 1
	} else {
		s.off = s.size
	}
	if s.skipped != nil && end > start {
		s.skipped(start, end-start)
	}
	return f, ok
}

// headAt reads the head at offset off: how long the body is, where the record stands, and whether both are possible.
func (s *scanner) headAt(off int64) (length int64, position uint64, ok bool) {
	if off > s.size-frameHead {
		return 0, 0, false
	}
	head := s.bytes(off, frameHead)
	if len(head) < frameHead || !bytes.Equal(head[:4], marker) {
		return 0, 0, false
	}
	length = int64(binary.LittleEndian.Uint32(head[8:]))
	position = binary.LittleEndian.Uint64(head[12:])
	return length, position, length <= s.size-off-frameHead && position >= s.low && position < s.high
}

// frameAt returns the record at offset off if whole and valid.
func (s *scanner) frameAt(off int64) (frame, bool) {
	length, position, ok := s.headAt(off)
	if !ok {
		return frame{}, false
	}
	b := s.bytes(off, int(frameHead+length))
	if int64(len(b)) < frameHead+length {
		return frame{}, false
	}
	if checksum(b[8:]) != binary.LittleEndian.Uint32(b[4:]) {
		return frame{}, false
	}
	return frame{position: position, offset: off, body: b[frameHead:]}, true
}

// resync finds the first valid record behind off. With a plausible head at off, it first tries the record
// behind that record, so no bytes inside a damaged record are taken for a record.
func (s *scanner) resync() (frame, bool) {
	if length, position, ok := s.headAt(s.off); ok && position == s.low {
		if f, ok := s.frameAt(s.off + frameHead + length); ok {
			return f, true
		}
	}
	for off := s.off + 1; off <= s.size-frameHead && s.err == nil; {
		window := s.bytes(off, min(s.window, int(s.size-off)))
		i := bytes.Index(window, marker)
		if i < 0 {
			if len(window) < len(marker) {
				break
			}
			off += int64(len(window) - len(marker) + 1)
			continue
		}
		off += int64(i)
		if length, _, ok := s.headAt(off); ok {
			if s.budget -= length; s.budget < 0 {
				break
			}
			if f, ok := s.frameAt(off); ok {
				return f, true
			}
		}
		off++
	}
	return frame{}, false
}

// bytes returns n bytes of the file from off on, fewer at the end.
func (s *scanner) bytes(off int64, n int) []byte {
	if off >= s.at && off+int64(n) <= s.at+int64(len(s.buf)) {
		return s.buf[off-s.at:][:n]
	}
	s.fill(off, max(n, s.window))
	return s.buf[:min(n, len(s.buf))]
}

// fill reads n bytes from off on into the buffer, fewer at the file's end.
func (s *scanner) fill(off int64, n int) {
	n = int(max(min(int64(n), s.size-off), 0))
	if cap(s.buf) < n {
		s.buf = make([]byte, n)
	}
	s.at, s.buf = off, s.buf[:n]
	if s.err != nil {
		s.buf = s.buf[:0]
		return
	}
	got, err := s.file.ReadAt(s.buf, off)
	if got == n {
		return
	}
	var missing cannotOpen
	switch {
	case errors.As(err, &missing):
		s.err, s.buf = err, s.buf[:0]
	case errors.Is(err, io.EOF): // truncated since
		s.size, s.buf = off+int64(got), s.buf[:got]
	default:
		s.fillAround(off)
	}
}

// fillAround reads the buffer's part of the file piece by piece; unreadable pieces become zeros, which are no
// record.
func (s *scanner) fillAround(off int64) {
	for done := 0; done < len(s.buf); {
		piece := s.buf[done:min(len(s.buf), done+pageSize)]
		if got, _ := s.file.ReadAt(piece, off+int64(done)); got < len(piece) {
			clear(piece)
		}
		done += len(piece)
	}
}

// damagedTail follows records from offset off on with plausible heads and wrong checksums, at the end of a
// segment. It returns their number, and the start of other bytes. A record never written whole does not
// count.
func (s *scanner) damagedTail(off int64, position uint64) (records uint64, end int64) {
	for off <= s.size-frameHead {
		length, at, ok := s.headAt(off)
		if !ok || at != position {
			break
		}
		off += frameHead + length
		position++
		records++
	}
	return records, off
}
