package ingest

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"reskafka/internal/rooted"
)

// Foreign is a folder of the PBX with this spool directory, owned by another user.
type Foreign struct {
	Folder string
	Owner  int
}

// String describes the folder's possible content, and the command to transfer the folder to the user of this
// process.
func (f Foreign) String() string {
	return fmt.Sprintf("%s may hold records that an earlier run staged, but belongs to user %s and Asterisk runs as user %s: run chown -R %d %s",
		f.Folder, rooted.UserName(f.Owner), rooted.UserName(os.Geteuid()), os.Geteuid(), f.Folder)
}

// Found is the result of Find.
type Found struct {
	Dead    []*Dead   // now this process's, the oldest first
	Foreign []Foreign // left alone
}

// Find adopts the folders of earlier runs of the PBX with this spool directory. Folders without unfinished
// frames are removed at once. Folders of other users and unrelated files are left alone.
func Find(base, spool string) (found Found, err error) {
	candidates, err := list(base, spool)
	if err != nil {
		return found, fmt.Errorf("looking for records of earlier runs: %w", err)
	}
	var failed []error
	for _, p := range candidates {
		d, err := find(p)
		var foreign *rooted.ForeignError
		switch {
		case errors.Is(err, syscall.EWOULDBLOCK): // the run is not over
		case errors.Is(err, fs.ErrNotExist): // removed
			p.forget()
		case errors.As(err, &foreign):
			if p.trusts(base, foreign.Owner) {
				found.Foreign = append(found.Foreign, Foreign{foreign.Path, foreign.Owner})
			}
		case err != nil:
			failed = append(failed, err)
		case d.Waiting() == 0 && len(d.Bad) == 0:
			failed = append(failed, d.Close())
		default:
			found.Dead = append(found.Dead, d)
		}
	}
	slices.SortFunc(found.Dead, func(a, b *Dead) int { return strings.Compare(began(a.name), began(b.name)) })
	return found, errors.Join(failed...)
}

// began returns the start of a run as sortable text: nanoseconds since 1970 have had 19 digits since 2001.
func began(name string) string {
	if m := names.FindStringSubmatch(name); m != nil {
		return m[3]
	}
	_, when, _ := strings.Cut(strings.TrimPrefix(name, unfinished), "-")
	return when
}

// list returns the folders to check: folders with notes in the spool, and folders with the spool's hash in
// their name.
func list(base, spool string) ([]*place, error) {
	hash := hashOf(spool)
	entries, err := os.ReadDir(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	var places []*place
	seen := map[string]bool{}
	add := func(name string) {
		if !seen[name] {
			seen[name] = true
			places = append(places, &place{path: base, name: name, spool: spool})
		}
	}
	if notes, err := openNotes(spool, false); err == nil {
		noted, _ := notes.ReadDir(".")
		for _, e := range noted {
			if names.MatchString(e.Name()) {
				add(e.Name())
			}
		}
		_ = notes.Close()
	}
	earlier := regexp.MustCompile(`^` + prefix + `-[0-9]+-` + hash + `$`)
	for _, e := range entries {
		if !e.IsDir() {
			continue
		}
		if m := names.FindStringSubmatch(e.Name()); m != nil && m[1] == hash {
			add(e.Name())
		}
		if earlier.MatchString(e.Name()) {
			places = append(places, listEarlier(base, e.Name(), spool)...)
		}
	}
	return places, nil
}

// listEarlier returns the folders of runs inside an earlier version's common folder, or the common folder
// itself if another user owns it.
func listEarlier(base, name, spool string) (places []*place) {
	path := filepath.Join(base, name)
	dir, err := openPrivate(path)
	if err != nil {
		return []*place{{path: base, name: name, spool: spool}}
	}
	defer func() { _ = dir.Close() }()
	entries, _ := dir.ReadDir(".")
	for _, e := range entries {
		places = append(places, &place{path: path, name: e.Name(), spool: spool})
	}
	if len(entries) == 0 {
		_ = os.Remove(path)
	}
	return places
}

// trusts reports whether another user's folder is shown to the administrator as a folder of this PBX. Any
// user can make a folder with the right hash, but only the owner of the spool can write a note. An earlier
// version's folder has no note, so its owner must be root.
func (p *place) trusts(base string, owner int) bool {
	if notes, err := openNotes(p.spool, false); err == nil {
		defer func() { _ = notes.Close() }()
		if _, err := notes.Lstat(p.name); err == nil {
			return true
		}
	}
	return owner == 0 && p.path == base && strings.HasPrefix(p.name, prefix+"-"+strconv.Itoa(owner)+"-")
}

func find(p *place) (*Dead, error) {
	dir, err := openPrivate(p.folder())
	if err != nil {
		return nil, err
	}
	lock, err := takeLock(dir, syscall.LOCK_EX)
	if err != nil {
		_ = dir.Close()
		return nil, err
	}
	d, err := load(dir)
	if err == nil {
		p.parent, err = os.OpenRoot(p.path + "/.")
	}
	if err != nil {
		_ = lock.Close()
		_ = dir.Close()
		return nil, err
	}
	d.place, d.lock = *p, lock
	return d, nil
}
