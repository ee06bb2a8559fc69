package ingest

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"

	"reskafka/internal/frame"
	"reskafka/internal/rooted"
)

// Dead is what a run left that did not end by itself. It belongs to whoever found it, until Close.
type Dead struct {
	PID   string        // of the process
	Slabs []*frame.Slab // by label, and those of a label in their order; mapped until Close, so that states outlive this process
	Bad   []error       // what cannot be read, perhaps by this version only: it stays where it is

	place
	dir  *rooted.Dir
	lock *os.File
}

// load maps the slabs of a run.
func load(dir *rooted.Dir) (*Dead, error) {
	entries, err := dir.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("reading the folder of a run: %w", err)
	}
	d := &Dead{PID: pidOf(filepath.Base(dir.Path())), dir: dir}
	for _, entry := range entries {
		if entry.Name() == lockName {
			continue
		}
		if err := d.mapFile(entry.Name()); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.Bad = append(d.Bad, fmt.Errorf("%s: %w", dir.Path(), err))
		}
	}
	sortSlabs(d.Slabs)
	return d, nil
}

// sortSlabs sorts by label, and the slabs of a label in the order in which they were filled.
func sortSlabs(slabs []*frame.Slab) {
	slices.SortFunc(slabs, func(a, b *frame.Slab) int {
		return cmp.Or(strings.Compare(a.Label, b.Label), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.First, b.First))
	})
}

// pidOf returns the process that a folder of a run is of.
func pidOf(name string) string {
	if m := names.FindStringSubmatch(name); m != nil {
		return m[2]
	}
	pid, _, _ := strings.Cut(strings.TrimPrefix(name, unfinished), "-")
	return pid
}

// mapFile maps the slabs of a file: many, with room for others between them, or one.
func (d *Dead) mapFile(name string) error {
	file, err := d.dir.OpenFile(name, os.O_RDWR)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	size := info.Size()
	if name == slabsName {
		size = frame.SlabBytes
	}
	for at := int64(0); at < info.Size() && at+size <= info.Size(); at += size {
		switch s, err := mapSlab(file, at, size); {
		case err == nil:
			d.Slabs = append(d.Slabs, s)
		case !errors.Is(err, frame.ErrNoSlab):
			d.Bad = append(d.Bad, fmt.Errorf("reading %s at byte %d: %w", filepath.Join(d.dir.Path(), name), at, err))
		}
	}
	return nil
}

// mapSlab maps the slab that stands in size bytes of a file. A page of it that is missing would end the process when it is
// read, so its head must say that it is as long: then its memory was allocated to the last byte, and nobody but us can
// take it away.
func mapSlab(file *os.File, at, size int64) (*frame.Slab, error) {
	var head [frame.SlabHeadSize]byte
	if n, err := file.ReadAt(head[:], at); n < len(head) {
		return nil, fmt.Errorf("%w: %w", frame.ErrNoSlab, err)
	}
	if _, err := frame.ReadSlab(head[:], size); err != nil {
		return nil, err
	}
	memory, err := syscall.Mmap(int(file.Fd()), at, int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping it: %w", err)
	}
	s, err := frame.ReadSlab(memory, size)
	if err != nil {
		_ = syscall.Munmap(memory)
		return nil, err
	}
	s.Lasting = true
	return s, nil
}

// Waiting says how many frames are ready and not done.
func (d *Dead) Waiting() int {
	n := 0
	for _, s := range d.Slabs {
		n += s.Waiting()
	}
	return n
}

// Close removes the run's folder if no frame in it is ready and not done and everything could be read, and lets go of
// it in any case.
func (d *Dead) Close() error {
	var err error
	if d.Waiting() == 0 && len(d.Bad) == 0 {
		err = d.remove()
	}
	d.unmap()
	_ = d.lock.Close()
	_ = d.parent.Close()
	return err
}

func (d *Dead) unmap() {
	for _, s := range d.Slabs {
		_ = syscall.Munmap(s.Memory)
	}
	d.Slabs = nil
	_ = d.dir.Close()
}
