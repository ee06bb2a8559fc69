package ingest

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"strconv"
	"syscall"

	"reskafka/internal/frame"
	"reskafka/internal/rooted"
)

// windowBytes is the unit of mapping of a slab file, 64 slabs: small enough to use address space in step with
// slabs, and large enough to make mapping cheap.
const windowBytes = 4 << 20

// files are the slab files of a run. The Door's mutex guards files.
type files struct {
	plain   *file
	durable *file       // nil = not opened yet
	folder  *rooted.Dir // the staging folder; nil = there is none
	mapped  [][]byte    // large slabs found by Rest
}

// file is a file with many slabs, mapped in windows on first use. It only grows.
type file struct {
	*os.File
	descriptor int    // the File's
	size       uint64 // as far as known
	windows    [][]byte
}

var (
	errNotSealed = errors.New("it is not sealed against shrinking")
	errNoFolder  = errors.New("an entry names a slab of a folder, and there is no folder")
)

// newFile takes ownership of an inherited descriptor. The file must be sealed against shrinking, because a
// read of a mapped page behind the end would end the process.
func newFile(descriptor int, name string) (*file, error) {
	const getSeals, sealShrink = 1034, 2 // F_GET_SEALS, F_SEAL_SHRINK
	f := &file{File: os.NewFile(uintptr(descriptor), name), descriptor: descriptor}
	if f.File == nil {
		return nil, os.ErrInvalid
	}
	seals, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(descriptor), getSeals, 0)
	switch {
	case errno != 0:
		_ = f.Close()
		return nil, fmt.Errorf("reading its seals: %w", errno)
	case seals&sealShrink == 0:
		_ = f.Close()
		return nil, errNotSealed
	}
	return f, nil
}

// reaches reports whether the file has at least end bytes.
func (f *file) reaches(end uint64) bool {
	if end > f.size {
		if info, err := f.Stat(); err == nil && info.Size() > 0 {
			f.size = max(f.size, uint64(info.Size()))
		}
	}
	return end <= f.size
}

// slab returns the memory of the slab at byte at of the file. The memory stays mapped until unmap.
func (f *file) slab(at uint64) ([]byte, error) {
	if at%frame.SlabBytes != 0 || at+frame.SlabBytes < at || !f.reaches(at+frame.SlabBytes) {
		return nil, fmt.Errorf("an entry names a slab at byte %d of a file of %d", at, f.size)
	}
	n := int(at / windowBytes)
	if n >= len(f.windows) {
		f.windows = append(f.windows, make([][]byte, n+1-len(f.windows))...)
	}
	if f.windows[n] == nil {
		// Parts behind the end of the file become usable once the file has grown.
		window, err := f.mmap(uint64(n)*windowBytes, windowBytes)
		if err != nil {
			return nil, err
		}
		f.windows[n] = window
	}
	return f.windows[n][at%windowBytes:][:frame.SlabBytes:frame.SlabBytes], nil
}

func (f *file) mmap(at, size uint64) ([]byte, error) {
	memory, err := syscall.Mmap(f.descriptor, int64(at), int(size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		return nil, fmt.Errorf("mapping slabs: %w", err)
	}
	return memory, nil
}

func (f *file) unmap() {
	for _, window := range f.windows {
		if window != nil {
			_ = syscall.Munmap(window)
		}
	}
	f.windows = nil
	_ = f.Close()
}

// filling returns the identity of a slab's filling, from its head.
func filling(head []byte) (stage, first uint64) {
	return binary.NativeEndian.Uint64(head[frame.SlabStage:]), binary.NativeEndian.Uint64(head[frame.SlabFirst:])
}

// of returns the file of a pool with many slabs.
func (f *files) of(pool uint64) (*file, error) {
	if pool == poolPlain || f.durable != nil {
		if pool == poolPlain {
			return f.plain, nil
		}
		return f.durable, nil
	}
	opened, err := f.open(slabsName)
	if err == nil {
		f.durable = opened
	}
	return opened, err
}

// open opens a file of the staging folder. Another user may have put anything there.
func (f *files) open(name string) (*file, error) {
	if f.folder == nil {
		return nil, errNoFolder
	}
	opened, err := f.folder.OpenFile(name, os.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("opening slabs: %w", err)
	}
	one := &file{File: opened}
	info, err := opened.Stat()
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("opening slabs: %s is no file", name)
	}
	var raw syscall.RawConn
	if err == nil {
		one.size = uint64(info.Size())
		raw, err = opened.SyscallConn()
	}
	if err == nil {
		err = raw.Control(func(descriptor uintptr) { one.descriptor = int(descriptor) })
	}
	if err != nil {
		_ = opened.Close()
		return nil, err
	}
	return one, nil
}

// large is a slab with a single frame.
type large struct {
	file *file
	at   uint64 // where the slab begins in the file
	own  bool   // the file is closed with the slab
}

// largePrefix begins the name of a large slab's file; the number follows.
const largePrefix = "slab-"

// openLarge finds a large slab: in the file of plain slabs, or in its own file.
func (f *files) openLarge(slab slabKey) (*large, error) {
	switch slab.pool {
	case poolPlain:
		return &large{file: f.plain, at: slab.slab}, nil
	case poolFile:
		opened, err := f.open(largePrefix + strconv.FormatUint(slab.slab, 10))
		return &large{file: opened, own: true}, err
	}
	return nil, fmt.Errorf("an entry names a large slab in file %d", slab.pool)
}

// read reads from a byte of the slab on.
func (l *large) read(to []byte, at uint64) error {
	if end := l.at + at + uint64(len(to)); end < l.at || !l.file.reaches(end) {
		return fmt.Errorf("an entry names %d bytes at byte %d of a file of %d", len(to), l.at+at, l.file.size)
	}
	_, err := l.file.ReadAt(to, int64(l.at+at))
	return err
}

func (l *large) write(from []byte, at uint64) error {
	_, err := l.file.WriteAt(from, int64(l.at+at))
	return err
}

func (l *large) close() {
	if l.own {
		_ = l.file.Close()
	}
}

// close unmaps and closes everything.
func (f *files) close() {
	f.plain.unmap()
	if f.durable != nil {
		f.durable.unmap()
	}
	for _, memory := range f.mapped {
		_ = syscall.Munmap(memory)
	}
	f.mapped = nil
	if f.folder != nil {
		_ = f.folder.Close()
		f.folder = nil
	}
}
