package staged

import (
	"cmp"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"

	"reskafka/internal/frame"
)

// Dead is what a run left that did not end by itself. It belongs to whoever found it, until Close.
type Dead struct {
	PID   string  // of the process
	Slabs []*Slab // by label, and those of a label in their order
	Bad   []error // what cannot be read, perhaps by this version only: it stays where it is

	parent *os.Root
	name   string
	lock   *os.File
}

// Slab is one slab of it, mapped: what is said of its frames' states stays, should this process be killed too.
type Slab struct {
	*frame.Slab
	memory []byte
}

// State is the state of the frame at byte at of the slab's file. It must not be used after Close of what it belongs to.
func (s *Slab) State(at int) *atomic.Uint32 { return frame.State(s.memory, at) }

// Find takes over what earlier runs of the PBX with that spool directory left, the oldest first; runs without frames
// that are ready and not done are removed at once. What is somebody else's is left alone.
func Find(base, spool string) ([]*Dead, error) {
	home := Home(base, spool)
	parent, err := openPrivate(home)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("looking for records of earlier runs: %w", err)
	}
	defer func() { _ = parent.Close() }()
	entries, err := fs.ReadDir(parent.FS(), ".")
	if err != nil {
		return nil, fmt.Errorf("looking for records of earlier runs: %w", err)
	}
	var found []*Dead
	var failed []error
	for _, entry := range entries {
		d, err := find(home, entry.Name())
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK), errors.Is(err, fs.ErrNotExist): // alive, or removed by somebody else
		case err != nil:
			failed = append(failed, err)
		case d.Waiting() == 0 && len(d.Bad) == 0:
			failed = append(failed, d.Close())
		default:
			found = append(found, d)
		}
	}
	slices.SortFunc(found, func(a, b *Dead) int { return strings.Compare(began(a.name), began(b.name)) })
	return found, errors.Join(failed...)
}

// began is when a run began, as text that sorts: nanoseconds since 1970 have had 19 digits since 2001.
func began(name string) string {
	_, when, _ := strings.Cut(strings.TrimPrefix(name, unfinished), "-")
	return when
}

func find(home, name string) (*Dead, error) {
	parent, err := openPrivate(home)
	if err != nil {
		return nil, err
	}
	lock, err := takeLock(parent, name)
	if err == nil {
		var d *Dead
		if d, err = load(parent, name); err == nil {
			d.lock = lock
			return d, nil
		}
		_ = lock.Close()
	}
	_ = parent.Close()
	return nil, err
}

// load maps the slabs of a run.
func load(parent *os.Root, name string) (*Dead, error) {
	entries, err := fs.ReadDir(parent.FS(), name)
	if err != nil {
		return nil, fmt.Errorf("reading the folder of a run: %w", err)
	}
	pid, _, _ := strings.Cut(strings.TrimPrefix(name, unfinished), "-")
	d := &Dead{PID: pid, parent: parent, name: name}
	for _, entry := range entries {
		if entry.Name() == lockName {
			continue
		}
		if err := d.mapFile(filepath.Join(name, entry.Name())); err != nil && !errors.Is(err, fs.ErrNotExist) {
			d.Bad = append(d.Bad, err)
		}
	}
	slices.SortFunc(d.Slabs, func(a, b *Slab) int {
		return cmp.Or(strings.Compare(a.Label, b.Label), cmp.Compare(a.Stage, b.Stage), cmp.Compare(a.First, b.First))
	})
	return d, nil
}

// mapFile maps the slabs of a file: many, with room for others between them, or one.
func (d *Dead) mapFile(path string) error {
	file, err := d.parent.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return err
	}
	if !info.Mode().IsRegular() {
		return fmt.Errorf("reading %s: no regular file", path)
	}
	size := info.Size()
	if filepath.Base(path) == slabsName {
		size = frame.SlabBytes
	}
	for at := int64(0); at < info.Size() && at+size <= info.Size(); at += size {
		switch s, err := mapSlab(file, at, size); {
		case err == nil:
			d.Slabs = append(d.Slabs, s)
		case !errors.Is(err, frame.ErrNoSlab):
			d.Bad = append(d.Bad, fmt.Errorf("reading %s at byte %d: %w", path, at, err))
		}
	}
	return nil
}

// mapSlab maps the slab that stands in size bytes of a file. A page of it that is missing would end the process when it is
// read, so its head must say that it is as long: then its memory was allocated to the last byte, and nobody but us can
// take it away.
func mapSlab(file *os.File, at, size int64) (*Slab, error) {
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
	return &Slab{s, memory}, nil
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
		err = remove(d.parent, d.name)
	}
	d.unmap()
	_ = d.lock.Close()
	_ = d.parent.Close()
	return err
}

func (d *Dead) unmap() {
	for _, s := range d.Slabs {
		_ = syscall.Munmap(s.memory)
	}
	d.Slabs = nil
}
