// Package staged keeps the folders of shared memory that records are staged in, and finds those that were left when a
// process was killed.
//
//	/dev/shm/res_kafka-UID-HASH/   of a user and a spool directory, that is, of one PBX; nobody else may look in
//	    PID-TIME/                  of one run of the engine
//	        lock                   locked (flock) for as long as the run lasts
//	        slabs                  made by stage/shared.c, read by internal/frame
//	        slab-N                 a larger one
//
// A folder whose lock is free belongs to a run that is over. Whoever takes its lock owns what is in it, until it holds
// nothing any more and is removed, or until its new owner ends in turn.
//
// The functions here wait for no network and no disk: it is memory that they work on.
package staged

import (
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"time"
)

// Base is where shared memory is found: a memory file system that every Linux has, unless a container does not.
const Base = "/dev/shm"

const (
	lockName   = "lock"
	slabsName  = "slabs" // STAGE_SLABS_FILE
	unfinished = ".new-" // begins the name of a folder that has no lock yet
	tries      = 20      // against others who remove what seems to be left
)

// Run is the folder of a run of the engine.
type Run struct {
	base, folder string
	parent       *os.Root
	name         string
	lock         *os.File
}

// Home names the folder of all runs of the PBX with that spool directory, below base. It is there while one of them is.
func Home(base, spool string) string {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(filepath.Clean(spool)))
	return filepath.Join(base, fmt.Sprintf("res_kafka-%d-%016x", os.Geteuid(), sum.Sum64()))
}

// Open makes a folder for a new run of the PBX with that spool directory, and locks it. Close ends the run.
func Open(base, spool string) (*Run, error) {
	if spool == "" {
		return nil, errors.New("the spool directory is not known")
	}
	var err error
	for range tries {
		var r *Run
		if r, err = open(base, Home(base, spool)); err == nil {
			return r, nil
		}
		if !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, fs.ErrExist) && !errors.Is(err, syscall.EWOULDBLOCK) {
			break // nobody has come between
		}
	}
	return nil, fmt.Errorf("making a folder in shared memory: %w", err)
}

func open(base, home string) (run *Run, err error) {
	if err := os.Mkdir(home, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
		return nil, err
	}
	parent, err := openPrivate(home)
	if err != nil {
		return nil, err
	}
	r := &Run{base: base, parent: parent, name: fmt.Sprintf("%d-%d", os.Getpid(), time.Now().UnixNano())}
	r.folder = filepath.Join(home, r.name)
	defer func() {
		if err != nil {
			r.release()
		}
	}()
	// Under its own name a folder is locked from the first moment on.
	if err := parent.Mkdir(unfinished+r.name, 0o700); err != nil {
		return nil, err
	}
	if r.lock, err = takeLock(parent, unfinished+r.name); err == nil {
		err = parent.Rename(unfinished+r.name, r.name)
	}
	return r, err
}

// openPrivate opens a folder that must be this user's, and nobody else's, and no link. errors.Is(err, fs.ErrNotExist): it
// is not there, or another one has taken its place meanwhile.
func openPrivate(path string) (*os.Root, error) {
	link, err := os.Lstat(path)
	if err != nil {
		return nil, err
	}
	root, err := os.OpenRoot(path)
	if err != nil {
		return nil, err
	}
	info, err := root.Stat(".")
	switch {
	case err != nil:
	case link.Mode().Type() != fs.ModeDir:
		err = fmt.Errorf("%s is no folder, but a link to one", path)
	case !os.SameFile(link, info):
		err = fmt.Errorf("%s has been replaced: %w", path, fs.ErrNotExist)
	case info.Sys().(*syscall.Stat_t).Uid != uint32(os.Geteuid()) || info.Mode().Perm() != 0o700:
		err = fmt.Errorf("%s is not private: its mode is %v and its owner number %d", path, info.Mode(), info.Sys().(*syscall.Stat_t).Uid)
	default:
		return root, nil
	}
	_ = root.Close()
	return nil, err
}

// takeLock locks a folder. errors.Is(err, syscall.EWOULDBLOCK): somebody else has.
func takeLock(parent *os.Root, name string) (*os.File, error) {
	file, err := parent.OpenFile(filepath.Join(name, lockName), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("locking %s: %w", file.Name(), err)
	}
	return file, nil
}

// Folder is where the run's slabs go: an absolute path.
func (r *Run) Folder() string { return r.folder }

// Removed says that somebody has removed the run's folder, or what is in it: what is put there is lost with the process.
func (r *Run) Removed() bool {
	var status syscall.Stat_t
	return syscall.Fstat(int(r.lock.Fd()), &status) == nil && status.Nlink == 0
}

// Close ends the run: its folder is removed unless there are frames in it that are ready and not done, which it counts,
// or something in it cannot be read, which is an error. Then it is left to the next run.
func (r *Run) Close() (waiting int, err error) {
	defer r.release()
	rest, err := load(r.parent, r.name)
	if err != nil {
		_ = os.Remove(r.parent.Name()) // it may be that only the run's own is gone
		return 0, err
	}
	defer rest.unmap()
	if waiting = rest.Waiting(); waiting > 0 || len(rest.Bad) > 0 {
		return waiting, errors.Join(rest.Bad...)
	}
	return 0, remove(r.parent, r.name)
}

func (r *Run) release() {
	if r.lock != nil {
		_ = r.lock.Close()
	}
	_ = r.parent.Close()
}

// remove removes a run's folder, and that of all runs when it was the last.
func remove(parent *os.Root, name string) error {
	err := parent.RemoveAll(name)
	// Who looks for what is left may put its lock into a folder that has lost ours; it removes it too.
	for range tries {
		if !errors.Is(err, syscall.ENOTEMPTY) {
			break
		}
		err = parent.RemoveAll(name)
	}
	if err != nil {
		return fmt.Errorf("removing the folder of a run: %w", err)
	}
	_ = os.Remove(parent.Name()) // fails while there are others in it
	return nil
}
