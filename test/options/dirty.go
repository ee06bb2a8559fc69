package options

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"
)

// cachestat is the number and the result of Linux's system call (since 6.5), the same on every architecture:
// include/uapi/linux/mman.h.
const cachestat = 451

type cacheRange struct{ offset, length uint64 }

type cacheState struct{ cached, dirty, writeback, evicted, recentlyEvicted uint64 }

// errUntold is the error of a kernel without this call, or of a directory without a disk: its pages are never
// dirty.
var errUntold = errors.New("the kernel does not tell what is on the disk")

// dirtyPages counts the pages at risk in a power cut, of files below a directory with that suffix, or returns
// errUntold.
func dirtyPages(dir, suffix string) (pages uint64, err error) {
	probe := filepath.Join(dir, "probe")
	if err := os.WriteFile(probe, []byte("x"), 0o600); err != nil {
		return 0, err
	}
	defer func() { _ = os.Remove(probe) }()
	if n, err := dirtyOf(probe); err != nil || n == 0 {
		return 0, fmt.Errorf("%w in %s: %d pages of a new file are not, %v", errUntold, dir, n, err)
	}
	err = filepath.WalkDir(dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || !strings.HasSuffix(path, suffix) {
			return err
		}
		n, err := dirtyOf(path)
		pages += n
		return err
	})
	return pages, err
}

func dirtyOf(path string) (pages uint64, err error) {
	f, err := os.Open(path)
	if err != nil {
		return 0, err
	}
	defer func() { _ = f.Close() }()
	var all cacheRange // a length of 0 is to the end
	var state cacheState
	_, _, failed := syscall.Syscall6(cachestat, f.Fd(), uintptr(unsafe.Pointer(&all)), uintptr(unsafe.Pointer(&state)), 0, 0, 0)
	if failed != 0 {
		return 0, fmt.Errorf("cachestat: %w", failed)
	}
	return state.dirty + state.writeback, nil
}
