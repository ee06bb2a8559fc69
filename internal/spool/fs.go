package spool

import (
	"fmt"
	"io"
	"io/fs"
	"os"
	"syscall"
)

// FS is what the spool asks of a file system; OS is the real one, tests put one that fails in its place. Names are as
// package os has them. Calls come from one goroutine at a time, but for Open and its file's Sync.
type FS interface {
	Open(name string, flag int) (File, error) // as os.OpenFile, directories too; a file it makes is for the owner only
	Mkdir(name string) error                  // for the owner only; one that is there is no error
	Remove(name string) error
	Rename(from, to string) error
	ReadDir(name string) ([]fs.DirEntry, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// OS is the file system of this machine. It follows no symbolic link in the last element of a name. What it makes
// belongs to the user and group below when these are not zero: the owner of the spool, when root works on it.
type OS struct{ UID, GID int }

// Open implements FS.
func (o OS) Open(name string, flag int) (File, error) {
	f, err := os.OpenFile(name, flag|syscall.O_NOFOLLOW|syscall.O_CLOEXEC, 0o600)
	if err != nil {
		return nil, err
	}
	if flag&os.O_CREATE != 0 && o != (OS{}) {
		if err := f.Chown(o.UID, o.GID); err != nil {
			_ = f.Close()
			return nil, err
		}
	}
	return f, nil
}

// Mkdir implements FS.
func (o OS) Mkdir(name string) error {
	err := os.Mkdir(name, 0o700)
	if os.IsExist(err) {
		info, err := os.Lstat(name)
		if err == nil && !info.IsDir() {
			return fmt.Errorf("%s is not a directory", name)
		}
		return err
	}
	if err == nil && o != (OS{}) {
		err = os.Lchown(name, o.UID, o.GID)
	}
	return err
}

// Remove implements FS.
func (OS) Remove(name string) error { return os.Remove(name) }

// Rename implements FS.
func (OS) Rename(from, to string) error { return os.Rename(from, to) }

// ReadDir implements FS.
func (OS) ReadDir(name string) ([]fs.DirEntry, error) { return os.ReadDir(name) }

// openFiles keeps the files last written to open, at most so many: a connection may have thousands of topics.
type openFiles struct {
	fs    FS
	most  int
	files map[string]*openFile
	clock uint64
}

type openFile struct {
	File
	used uint64
}

func newOpenFiles(fs FS, most int) *openFiles {
	return &openFiles{fs: fs, most: most, files: map[string]*openFile{}}
}

// get gives the file for writing, opened with flag if it is not open yet. It stays the cache's.
func (o *openFiles) get(name string, flag int) (File, error) {
	o.clock++
	if f := o.files[name]; f != nil {
		f.used = o.clock
		return f, nil
	}
	if len(o.files) >= o.most {
		o.closeOldest()
	}
	f, err := o.fs.Open(name, os.O_WRONLY|flag)
	if err != nil {
		return nil, err
	}
	o.files[name] = &openFile{f, o.clock}
	return f, nil
}

func (o *openFiles) closeOldest() {
	oldest, used := "", o.clock+1
	for name, f := range o.files {
		if f.used < used {
			oldest, used = name, f.used
		}
	}
	o.close(oldest)
}

// close closes the file if it is open. Its error is of no use: what has to be on the disk is synced before.
func (o *openFiles) close(name string) {
	if f := o.files[name]; f != nil {
		_ = f.Close()
		delete(o.files, name)
	}
}

func (o *openFiles) closeAll() {
	for name := range o.files {
		o.close(name)
	}
}
