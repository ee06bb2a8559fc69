package ingest

import (
	"crypto/rand"
	"errors"
	"fmt"
	"hash/fnv"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"time"

	"reskafka/internal/rooted"
)

// Base is the place of shared memory: a memory file system on every Linux, except some containers.
const Base = "/dev/shm"

const (
	lockName   = "lock"
	slabsName  = "slabs"     // STAGE_SLABS_FILE
	prefix     = "res_kafka" // begins the name of every folder
	unfinished = ".new-"     // prefix of a folder without a lock yet
	tries      = 20          // against processes that remove apparent leftovers
)

// notesDir is where a spool directory has the names of folders.
var notesDir = filepath.Join("kafka", ".staged")

// names matches the folders of runs: the hash, the process and the time.
var names = regexp.MustCompile(`^(?:\.new-)?res_kafka-([0-9a-f]{16})-([0-9]+)-([0-9]+)-[A-Z2-7]{20,}$`)

// Run is the folder of a run of the engine.
type Run struct {
	place
	lock *os.File
}

// place is where a folder is.
type place struct {
	parent *os.Root // the parent folder
	path   string   // of the parent
	name   string
	spool  string
}

func (p *place) folder() string { return filepath.Join(p.path, p.name) }

func hashOf(spool string) string {
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(filepath.Clean(spool)))
	return fmt.Sprintf("%016x", sum.Sum64())
}

// Pattern returns the pattern for filepath.Glob of the folders of all runs of the PBX with this spool
// directory.
func Pattern(base, spool string) string {
	return filepath.Join(base, fmt.Sprintf("%s-%s-*", prefix, hashOf(spool)))
}

// NewRun creates a locked folder for a new run of the PBX with this spool directory. Close ends the run.
func NewRun(base, spool string) (*Run, error) {
	if spool == "" {
		return nil, errors.New("the spool directory is not known")
	}
	parent, err := os.OpenRoot(base + "/.")
	if err != nil {
		return nil, fmt.Errorf("making a folder in shared memory: %w", err)
	}
	r := &Run{place: place{parent: parent, path: base, spool: spool}}
	for range tries {
		r.name = fmt.Sprintf("%s-%s-%d-%d-%s", prefix, hashOf(spool), os.Getpid(), time.Now().UnixNano(), rand.Text())
		err = r.create()
		// Another process in search of leftovers may take the folder before the lock.
		if err == nil || !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, syscall.EWOULDBLOCK) {
			break
		}
	}
	if err != nil {
		r.release()
		return nil, fmt.Errorf("making a folder in shared memory: %w", err)
	}
	return r, nil
}

// JoinRun uses the folder of the running Asterisk, created by a dead engine. Asterisk's process holds the
// folder's lock meanwhile, so no other process treats the run as killed.
func JoinRun(base, spool, folder string) (*Run, error) {
	if !names.MatchString(filepath.Base(folder)) || filepath.Dir(folder) != filepath.Clean(base) {
		return nil, fmt.Errorf("%s is no folder of shared memory", folder)
	}
	dir, err := openPrivate(folder)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	lock, err := takeLock(dir, syscall.LOCK_SH)
	if err != nil {
		return nil, err
	}
	parent, err := os.OpenRoot(base + "/.")
	if err != nil {
		_ = lock.Close()
		return nil, err
	}
	return &Run{place{parent: parent, path: filepath.Clean(base), name: filepath.Base(folder), spool: spool}, lock}, nil
}

func (r *Run) create() error {
	// A folder has its final name only with a lock.
	fresh := unfinished + r.name
	if err := r.parent.Mkdir(fresh, 0o700); err != nil {
		return err
	}
	dir, err := openPrivate(filepath.Join(r.path, fresh))
	if err != nil {
		return err
	}
	defer func() { _ = dir.Close() }()
	lock, err := takeLock(dir, syscall.LOCK_SH)
	if err != nil {
		return err
	}
	if err := r.parent.Rename(fresh, r.name); err != nil {
		_ = lock.Close()
		return err
	}
	r.lock = lock
	_ = r.note() // the folder is found without a note
	return nil
}

// openPrivate opens a folder owned by this user and closed to all others. errors.Is(err, fs.ErrNotExist): the
// folder is missing.
func openPrivate(path string) (*rooted.Dir, error) {
	dir, err := rooted.OpenOwn(path)
	if err != nil {
		return nil, err
	}
	mode, err := dir.Mode()
	if err == nil && mode != 0o700 {
		err = fmt.Errorf("%s is not private: its mode is %v", path, mode)
	}
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	return dir, nil
}

// takeLock locks a folder: LOCK_SH for a process of the run, LOCK_EX for the adoption of a finished run.
// errors.Is(err, syscall.EWOULDBLOCK): another process holds a conflicting lock.
func takeLock(dir *rooted.Dir, how int) (*os.File, error) {
	file, err := dir.OpenFile(lockName, os.O_CREATE|os.O_RDWR)
	if err != nil {
		return nil, fmt.Errorf("locking %s: %w", dir.Path(), err)
	}
	if err := syscall.Flock(int(file.Fd()), how|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("locking %s: %w", dir.Path(), err)
	}
	return file, nil
}

// Folder is where the run's slabs go: an absolute path.
func (r *Run) Folder() string { return r.folder() }

// Removed reports whether another process has removed the run's folder or its files: records put there are
// lost with the process.
func (r *Run) Removed() bool {
	var status syscall.Stat_t
	return syscall.Fstat(int(r.lock.Fd()), &status) == nil && status.Nlink == 0
}

// Close ends the run. The folder is removed unless some frames are unfinished (their number is returned), or
// a file is unreadable (an error). Otherwise the folder is left to the next run.
func (r *Run) Close() (waiting int, err error) {
	defer r.release()
	dir, err := openPrivate(r.folder())
	if err != nil {
		if errors.Is(err, fs.ErrNotExist) {
			r.forget()
		}
		return 0, err
	}
	rest, err := load(dir)
	if err != nil {
		return 0, err
	}
	defer rest.unmap()
	if waiting = rest.Waiting(); waiting > 0 || len(rest.Bad) > 0 {
		return waiting, errors.Join(rest.Bad...)
	}
	return 0, r.remove()
}

func (r *Run) release() {
	if r.lock != nil {
		_ = r.lock.Close()
	}
	_ = r.parent.Close()
}

// note has the spool directory name the folder.
func (p *place) note() error {
	notes, err := openNotes(p.spool, true)
	if err != nil {
		return err
	}
	defer func() { _ = notes.Close() }()
	f, err := notes.OpenFile(p.name, os.O_CREATE|os.O_EXCL|os.O_WRONLY)
	if err != nil {
		return err
	}
	return f.Close()
}

// forget removes the spool directory's note of the folder, which is gone.
func (p *place) forget() {
	notes, err := openNotes(p.spool, false)
	if err != nil {
		return
	}
	defer func() { _ = notes.Close() }()
	_ = notes.Remove(p.name)
}

// openNotes opens the folder of notes, and creates a missing folder if create is set. The spool directory
// itself is never created.
func openNotes(spool string, create bool) (*rooted.Dir, error) {
	kafka := filepath.Join(spool, filepath.Dir(notesDir))
	if create {
		if err := os.Mkdir(kafka, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	kafka, err := rooted.Resolve(kafka)
	if err != nil {
		return nil, err
	}
	dir, err := rooted.OpenOwn(kafka)
	if err != nil {
		return nil, err
	}
	defer func() { _ = dir.Close() }()
	notes := filepath.Base(notesDir)
	if create {
		if err := dir.Mkdir(notes, 0o700); err != nil && !errors.Is(err, fs.ErrExist) {
			return nil, err
		}
	}
	return rooted.OpenOwn(filepath.Join(kafka, notes))
}

// remove removes the folder and its note, and an earlier version's common folder with the last run.
func (p *place) remove() error {
	err := p.parent.RemoveAll(p.name)
	// A process in search of leftovers may put a lock into a folder without ours, and removes the folder too.
	for range tries {
		if !errors.Is(err, syscall.ENOTEMPTY) {
			break
		}
		err = p.parent.RemoveAll(p.name)
	}
	if err != nil {
		return fmt.Errorf("removing %s: %w", p.folder(), err)
	}
	if strings.HasPrefix(filepath.Base(p.path), prefix) {
		_ = os.Remove(p.path) // fails while other folders are left
	}
	p.forget()
	return nil
}
