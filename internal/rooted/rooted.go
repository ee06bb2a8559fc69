// Package rooted opens directories, and files there, where another user may have prepared the path. No
// symbolic link in given names is followed, no named pipe is waited for, no device is opened, and no path
// leaves the directory.
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

// Dir is an open directory, the same directory after any change of the path.
type Dir struct {
	*os.Root
	path  string
	owner int
}

// ForeignError reports a directory owned by another user than this process's.
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
	// The dot makes the kernel refuse a named pipe at once, if a pipe has replaced the directory meanwhile.
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

// OpenOwn is Open for a directory that must belong to this process's user. The error is a *ForeignError for
// another owner.
func OpenOwn(path string) (*Dir, error) {
	// The permissions of another user's directory may forbid the open.
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

// Path returns the path used to open the directory.
func (d *Dir) Path() string { return d.path }

// Mode returns the directory's permissions.
func (d *Dir) Mode() (fs.FileMode, error) {
	info, err := d.Stat(".")
	if err != nil {
		return 0, err
	}
	return info.Mode().Perm(), nil
}

// OpenFile opens a regular file or a directory below d. A created file is for its owner only.
func (d *Dir) OpenFile(name string, flag int) (*os.File, error) {
	info, err := d.Lstat(name)
	switch {
	case flag&os.O_EXCL != 0, errors.Is(err, fs.ErrNotExist) && flag&os.O_CREATE != 0:
		info = nil // the kernel refuses all other kinds
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

// Kind describes the kind of file of a mode.
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

// Owner returns the user id of a file's owner.
func Owner(info fs.FileInfo) int { return int(info.Sys().(*syscall.Stat_t).Uid) }

// UserName returns a user's name and number, or the number alone for a user missing in /etc/passwd. It does
// not use the C library, which may ask a directory service and block.
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

// Resolve returns path with symbolic links in the last element resolved. A link owned by neither root nor
// this process's user is refused, because the owner chooses the target. The kernel resolves the parent
// directories, because a link such as /proc/PID/root does not lead to the link's text.
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
