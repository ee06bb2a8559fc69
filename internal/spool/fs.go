package spool

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"reskafka/internal/rooted"
)

// FS is the spool's file system. Names are paths below the spool's directory. Calls come from one goroutine
// at a time, except Open and its file's Sync.
type FS interface {
	Open(name string, flag int) (File, error) // like os.OpenFile, also for directories; a created file is for the owner only
	Mkdir(name string) error                  // for the owner only; an existing directory is no error
	Remove(name string) error
	Rename(from, to string) error
	ReadDir(name string) ([]fs.DirEntry, error)
	Lstat(name string) (fs.FileInfo, error)
}

// File is an open file.
type File interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Truncate(size int64) error
	Sync() error
}

// dirFS is the machine's file system below a directory. It never leaves the directory: it follows no symbolic
// link, and opens no named pipe and no device.
type dirFS struct {
	dir  *rooted.Dir
	path string // prefix of names; dir may have been opened by another path
}

// below returns the name relative to the directory.
func (d dirFS) below(name string) (string, error) { return filepath.Rel(d.path, name) }

// Open implements FS.
func (d dirFS) Open(name string, flag int) (File, error) {
	f, err := d.openFile(name, flag)
	if err != nil {
		return nil, err
	}
	return f, nil
}

func (d dirFS) openFile(name string, flag int) (*os.File, error) {
	rel, err := d.below(name)
	if err != nil {
		return nil, err
	}
	return d.dir.OpenFile(rel, flag)
}

// Mkdir implements FS.
func (d dirFS) Mkdir(name string) error {
	rel, err := d.below(name)
	if err != nil {
		return err
	}
	err = d.dir.Mkdir(rel, 0o700)
	if !errors.Is(err, fs.ErrExist) {
		return err
	}
	info, err := d.dir.Lstat(rel)
	if err == nil && !info.IsDir() {
		return fmt.Errorf("%s %s and not a directory", name, rooted.Kind(info.Mode()))
	}
	return err
}

// Remove implements FS.
func (d dirFS) Remove(name string) error {
	rel, err := d.below(name)
	if err != nil {
		return err
	}
	return d.dir.Remove(rel)
}

// Rename implements FS.
func (d dirFS) Rename(from, to string) error {
	relFrom, err := d.below(from)
	if err != nil {
		return err
	}
	relTo, err := d.below(to)
	if err != nil {
		return err
	}
	return d.dir.Rename(relFrom, relTo)
}

// ReadDir implements FS.
func (d dirFS) ReadDir(name string) ([]fs.DirEntry, error) {
	rel, err := d.below(name)
	if err != nil {
		return nil, err
	}
	return d.dir.ReadDir(rel)
}

// Lstat implements FS.
func (d dirFS) Lstat(name string) (fs.FileInfo, error) {
	rel, err := d.below(name)
	if err != nil {
		return nil, err
	}
	return d.dir.Lstat(rel)
}

// OwnerError reports a spool owned by another user than this process's.
type OwnerError struct{ rooted.ForeignError }

func (e *OwnerError) Error() string {
	return fmt.Sprintf("spool %s belongs to user %s, but this process runs as user %s: run it as the owner, or change the owner with chown -R %d %s",
		e.Path, rooted.UserName(e.Owner), rooted.UserName(os.Geteuid()), os.Geteuid(), e.Path)
}

// openOwn opens a spool's directory, which must belong to this user.
func openOwn(path string) (*rooted.Dir, error) {
	d, err := rooted.OpenOwn(path)
	var foreign *rooted.ForeignError
	if errors.As(err, &foreign) {
		return nil, &OwnerError{*foreign}
	}
	return d, err
}

// openRoot opens the parent directory of the connections' spools, the option spool_dir. Another user may own
// it, except for root: another user could redirect root's files.
func openRoot(root string) (*rooted.Dir, error) {
	resolved, err := rooted.Resolve(root)
	if err != nil {
		return nil, err
	}
	if os.Geteuid() == 0 {
		return openOwn(resolved)
	}
	return rooted.Open(resolved)
}

// openSpool opens the directory of a connection's spool, after creating it if create is set. Only the owner
// may access it.
func openSpool(dir string, create bool) (dirFS, error) {
	root, name := filepath.Split(filepath.Clean(dir))
	if create {
		if err := os.MkdirAll(root, 0o700); err != nil {
			return dirFS{}, fmt.Errorf("making the spool's directory: %w", err)
		}
	}
	above, err := openRoot(filepath.Clean(root))
	if err != nil {
		return dirFS{}, fmt.Errorf("opening the spool's directory: %w", err)
	}
	defer func() { _ = above.Close() }()
	if create {
		if err := above.Mkdir(name, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return dirFS{}, fmt.Errorf("making the spool's directory: %w", err)
		}
	}
	opened, err := openOwn(filepath.Join(above.Path(), name))
	if err != nil {
		return dirFS{}, fmt.Errorf("opening the spool's directory: %w", err)
	}
	if mode, err := opened.Mode(); create && err == nil && mode != 0o700 {
		if err := opened.Chmod(".", 0o700); err != nil {
			_ = opened.Close()
			return dirFS{}, fmt.Errorf("making the spool's directory private: %w", err)
		}
	}
	return dirFS{opened, dir}, nil
}

// openFiles keeps the last written files open, with a limit: a connection may have thousands of topics.
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

// get returns the file for writing, opened with flag if necessary. The cache keeps ownership.
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

// close closes an open file. Its error has no use: necessary syncs come before.
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
