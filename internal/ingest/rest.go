package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"reskafka/internal/frame"
	"reskafka/internal/host"
)

// Rest returns the slabs with ready frames that never came through the ring, for the end of Asterisk's
// process. Slabs are sorted by label, then by the time of filling. Rest empties the ring first. The slabs are
// mapped until Close. The caller reads each frame once and stores frame.Done into its state after finishing
// the frame.
func (d *Door) Rest() []*frame.Slab {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if d.closed {
		return nil
	}
	d.drain()
	// The caller takes the rest of each slab: a look at a followed slab, or another attempt at a range left in
	// the ring, would take the same frames again.
	if d.retry != nil {
		d.retry.Stop()
	}
	for _, f := range d.followers {
		d.leave(f)
	}
	var all []*frame.Slab
	add := func(key slabKey, s *frame.Slab, err error) {
		switch {
		case errors.Is(err, frame.ErrNoSlab):
		case err != nil:
			host.Logf(d.log, host.Warning, "what Asterisk staged cannot be used: %v", err)
		default:
			s.Lasting = key.pool != poolPlain
			if was, ok := d.handed[key]; ok && was.stage == s.Stage && was.first == s.First {
				s.From = int(min(was.end, maxSlab))
			}
			if s.Waiting() > 0 {
				all = append(all, s)
			}
		}
	}
	usual := d.control.head.usualBytes.Load()
	d.scan(poolPlain, usual, add)
	d.scanLarge(usual, add)
	if d.files.folder != nil {
		d.scan(poolDurable, maxFile, add)
		d.scanFolder(add)
	}
	sortSlabs(all)
	return all
}

// maxFile is longer than any file.
const maxFile = 1 << 62

type found func(key slabKey, s *frame.Slab, err error)

// scan looks at each place of a file where a slab may begin, up to end.
func (d *Door) scan(pool, end uint64, add found) {
	f, err := d.files.of(pool)
	if err != nil {
		return // the file does not exist
	}
	f.reaches(maxFile) // learns the file's size
	var head [frame.SlabHeadSize]byte
	for at := uint64(0); at+frame.SlabBytes <= min(end, f.size); at += frame.SlabBytes {
		// A read before the mapping: a look at a page without memory through a mapping would allocate the
		// page.
		_, err := f.ReadAt(head[:], int64(at))
		var s *frame.Slab
		if err == nil {
			s, err = frame.ReadSlab(head[:], frame.SlabBytes)
		}
		var memory []byte
		if err == nil {
			memory, err = f.slab(at)
		}
		if err == nil {
			s, err = frame.ReadSlab(memory, frame.SlabBytes)
		}
		add(slabKey{pool, at}, s, err)
	}
}

// scanLarge looks for the large slabs in the file of plain slabs.
func (d *Door) scanLarge(from uint64, add found) {
	f := d.files.plain
	for at := from / frame.SlabBytes * frame.SlabBytes; at < f.size; {
		key := slabKey{poolPlain, at}
		s, err := d.mapLarge(&large{file: f, at: at}, f.size-at)
		add(key, s, err)
		at += frame.SlabBytes
		if err == nil { // the inside is no slab
			at += (s.Size - 1) / frame.SlabBytes * frame.SlabBytes
		}
	}
}

// scanFolder looks at the files of large slabs.
func (d *Door) scanFolder(add found) {
	entries, err := d.files.folder.ReadDir(".")
	if err != nil {
		host.Logf(d.log, host.Warning, "reading the staging folder: %v", err)
	}
	for _, e := range entries {
		digits, ok := strings.CutPrefix(e.Name(), largePrefix)
		number, err := strconv.ParseUint(digits, 10, 64)
		if !ok || err != nil {
			continue
		}
		key := slabKey{poolFile, number}
		l, err := d.files.openLarge(key)
		var s *frame.Slab
		if err == nil {
			s, err = d.mapLarge(l, l.file.size)
			l.close()
		}
		add(key, s, err)
	}
}

// mapLarge maps a large slab, which has most bytes at most.
func (d *Door) mapLarge(l *large, most uint64) (*frame.Slab, error) {
	var head [frame.SlabHeadSize]byte
	if most < frame.SlabHeadSize {
		return nil, frame.ErrNoSlab
	}
	if err := l.read(head[:], 0); err != nil {
		return nil, err
	}
	size := binary.NativeEndian.Uint64(head[frame.SlabSize:])
	if _, err := frame.ReadSlab(head[:], int64(size)); err != nil {
		return nil, err
	}
	if size > maxPlace {
		return nil, fmt.Errorf("reading a slab: it has %d bytes", size)
	}
	// The place may be longer than the frame and the file.
	memory, err := l.file.mmap(l.at, min(size, most))
	if err != nil {
		return nil, err
	}
	d.files.mapped = append(d.files.mapped, memory)
	s, err := frame.ReadSlab(memory, int64(size))
	if err == nil {
		s.Memory = memory
	}
	return s, err
}

// maxPlace is the longest place of a slab: 2^17 usual slabs.
const maxPlace = frame.SlabBytes << 17
