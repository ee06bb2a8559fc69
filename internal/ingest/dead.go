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

// Dead is a run without a proper end. The finder owns the run until Close.
type Dead struct {
	PID   string        // of the process
	Slabs []*frame.Slab // by label, then in order; mapped until Close, so states outlive this process
	Bad   []error       // unreadable files, perhaps for this version only: they stay in place

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

// sortSlabs sorts slabs by label, then by the time of filling.
func sortSlabs(slabs []*frame.Slab) {
	slices.SortFunc(slabs, func(a, b *frame.Slab) int {
		return cmp.Or(strings.Compare(a.Label, b.Label), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.First, b.First))
	})
}

// pidOf returns the process id in the name of a run's folder.
func pidOf(name string) string {
	if m := names.FindStringSubmatch(name); m != nil {
		return m[2]
	}
	pid, _, _ := strings.Cut(strings.TrimPrefix(name, unfinished), "-")
	return pid
}

// mapFile maps the slabs of a file: many, with gaps between them, or a single slab.
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

// mapSlab maps the slab in size bytes of a file. A read of a missing page would end the process, so the
// slab's head must confirm the size: its memory was then allocated to the last byte, and only this user can
// release it.
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

// Close removes the run's folder if no frame is unfinished and every file was readable, and releases the
// folder in any case.
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
