// Package rooted opens directories, and files in them, that somebody else may have prepared. It follows no symbolic link in
// the names that it is given, waits for no named pipe, opens no device, and never leaves the directory.
package rooted

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
)

// Dir is an open directory. It stays the same directory whatever its path comes to name.
type Dir struct {
	*os.Root
	path  string
	owner int
}

// ForeignError reports a directory that belongs to another user than the one this process runs as.
type ForeignError struct {
	Path  string
	Owner int
}

func (e *ForeignError) Error() string {
	return fmt.Sprintf("%s belongs to user %s and not to user %s", e.Path, UserName(e.Owner), UserName(os.Geteuid()))
}

// Open opens the directory at path. The last element of path must be no symbolic link.
func Open(path string) (*Dir, error) {
	link, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	if !link.IsDir() {
		return nil, &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("%s and not a directory", Kind(link.Mode()))}
	}
	// The dot makes the kernel refuse a named pipe at once, should one have taken the directory's place meanwhile.
	root, err := os.OpenRoot(path + "/.")
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	if err == nil && !os.SameFile(link, info) {
		err = &fs.PathError{Op: "open", Path: path, Err: fmt.Errorf("replaced meanwhile: %w", fs.ErrNotExist)}
	}
	if err != nil {
		_ = root.Close()
		return nil, err
	}
	return &Dir{root, path, Owner(info)}, nil
}

// OpenOwn is Open for a directory that must belong to the user this process runs as. The error is a *ForeignError when it
// belongs to another one.
func OpenOwn(path string) (*Dir, error) {
	// Another user's directory may not let us open it.
	if info, err := os.Lstat(path); err == nil && info.IsDir() && Owner(info) != os.Geteuid() {
		return nil, &ForeignError{path, Owner(info)}
	}
	d, err := Open(path)
	if err == nil && d.owner != os.Geteuid() {
		err = &ForeignError{path, d.owner}
		_ = d.Close()
	}
	if err != nil {
		return nil, err
	}
	return d, nil
}

// Path returns the path that the directory was opened by.
func (d *Dir) Path() string { return d.path }

// Mode returns the directory's permissions.
func (d *Dir) Mode() (fs.FileMode, error) {
	info, err := d.Stat(".")
	if err != nil {
		return 0, err
	}
	return info.Mode().Perm(), nil
}

// OpenFile opens a regular file or a directory below d. What it creates is for its owner only.
func (d *Dir) OpenFile(name string, flag int) (*os.File, error) {
	info, err := d.Lstat(name)
	switch {
	case flag&os.O_EXCL != 0, errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
		info = nil // the kernel refuses whatever is there
	case err != nil:
		return nil, err
	default:
		if err := acceptable(name, info); err != nil {
			return nil, err
		}
	}
	f, err := d.Root.OpenFile(name, flag|syscall.O_NONBLOCK, 0o600)
	if err != nil {
		return nil, err
	}
	opened, err := f.Stat()
	if err == nil {
		err = acceptable(name, opened)
	}
	if err == nil && info != nil && !os.SameFile(info, opened) {
		err = &fs.PathError{Op: "open", Path: name, Err: fmt.Errorf("replaced meanwhile: %w", fs.ErrNotExist)}
	}
	if err != nil {
		_ = f.Close()
		return nil, err
	}
	return f, nil
}

// ReadDir lists a directory below d, sorted by name.
func (d *Dir) ReadDir(name string) ([]fs.DirEntry, error) {
	f, err := d.OpenFile(name, os.O_RDONLY|syscall.O_DIRECTORY)
	if err != nil {
		return nil, err
	}
	defer func() { _ = f.Close() }()
	entries, err := f.ReadDir(-1)
	slices.SortFunc(entries, func(a, b fs.DirEntry) int { return strings.Compare(a.Name(), b.Name()) })
	return entries, err
}

func acceptable(name string, info fs.FileInfo) error {
	if info.Mode().IsRegular() || info.IsDir() {
		return nil
	}
	return &fs.PathError{Op: "open", Path: name, Err: errors.New(Kind(info.Mode()) + " and not a file")}
}

// Kind describes what a mode says a file is.
func Kind(mode fs.FileMode) string {
	switch {
	case mode.IsRegular():
		return "is a file"
	case mode.IsDir():
		return "is a directory"
	case mode&fs.ModeSymlink != 0:
		return "is a symbolic link"
	case mode&fs.ModeNamedPipe != 0:
		return "is a named pipe"
	case mode&fs.ModeSocket != 0:
		return "is a socket"
	default:
		return "is a device"
	}
}

// Owner returns the number of the user that a file belongs to.
func Owner(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// UserName returns a user's name and number, or the number alone when /etc/passwd does not list it. It does not ask the C
// library, which may ask a directory service and wait for it.
func UserName(uid int) string {
	number := strconv.Itoa(uid)
	accounts, _ := os.ReadFile("/etc/passwd")
	for line := range strings.Lines(string(accounts)) {
		if fields := strings.Split(line, ":"); len(fields) > 2 && fields[2] == number {
			return fmt.Sprintf("%s (%s)", fields[0], number)
		}
	}
	return number
}

// Resolve returns path with symbolic links in its last element resolved. It refuses a link that belongs to neither root nor the
// user this process runs as: whoever owns it decides where it leads. What is above is left to the kernel, for a link such as
// /proc/PID/root leads to where its text does not.
func Resolve(path string) (string, error) {
	for range maxLinks {
		info, err := os.Lstat(path)
		if err != nil {
			return "", err
		}
		if info.Mode()&fs.ModeSymlink == 0 {
			return path, nil
		}
		if owner := Owner(info); owner != 0 && owner != os.Geteuid() {
			return "", fmt.Errorf("%s is a symbolic link of user %s", path, UserName(owner))
		}
		target, err := os.Readlink(path)
		if err != nil {
			return "", err
		}
		if !filepath.IsAbs(target) {
			target = filepath.Dir(path) + "/" + target // not cleaned: ".." after a link is the kernel's to follow
		}
		path = target
	}
	return "", &fs.PathError{Op: "open", Path: path, Err: syscall.ELOOP}
}

// maxLinks is how many links in a row the kernel follows.
const maxLinks = 40
