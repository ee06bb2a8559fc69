package spool

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"reskafka/internal/record"
)

// obstacles may be in the place of a file or a directory. outside is a directory that must stay untouched.
var obstacles = map[string]func(path, outside string) error{
	"named pipe":          func(path, _ string) error { return syscall.Mkfifo(path, 0o666) },
	"link to a directory": func(path, outside string) error { return os.Symlink(outside, path) },
	"link to a file":      func(path, outside string) error { return os.Symlink(filepath.Join(outside, "precious"), path) },
	"dangling link":       func(path, outside string) error { return os.Symlink(filepath.Join(outside, "new"), path) },
	"directory":           func(path, _ string) error { return os.Mkdir(path, 0o700) },
	"file":                func(path, _ string) error { return os.WriteFile(path, []byte("text"), 0o600) },
	"device":              func(path, _ string) error { return syscall.Mknod(path, syscall.S_IFCHR|0o666, 1<<8|5) }, // /dev/zero
}

// places are the paths opened by the engine and the offline tool, below spool_dir.
var places = []string{
	".", "main", "main/lock", "main/topics", "main/topics/calls", "main/topics/calls/00000000000000000001.seg",
	"main/topics/calls/settled", "main/dead-letters", "main/dead-letters/00000000000000000001.seg", "main/damaged",
	"main/damaged/topics",
}

// With any obstacle in any place of the spool, nothing hangs, and nothing outside is touched. The lock was
// opened without a check, so a named pipe hung the offline tool, and a link in the place of a directory was
// followed.
func TestOpen_ObstacleAtEachPath_NeitherHangsNorLeaves(t *testing.T) {
	for name, lay := range obstacles {
		for _, place := range places {
			t.Run(name+" at "+place, func(t *testing.T) {
				t.Parallel()
				outside, root := t.TempDir(), filepath.Join(t.TempDir(), "spool")
				if err := os.WriteFile(filepath.Join(outside, "precious"), []byte("precious"), 0o640); err != nil {
					t.Fatal(err)
				}
				fill(t, Dir(root, "main"))
				path := filepath.Join(root, place)
				if err := os.RemoveAll(path); err != nil {
					t.Fatal(err)
				}
				if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
					t.Fatal(err)
				}
				if err := lay(path, outside); errors.Is(err, syscall.EPERM) {
					t.Skip("SKIPPED: only root can make a device")
				} else if err != nil {
					t.Fatal(err)
				}
				use(root)
				entries, _ := os.ReadDir(outside)
				content, _ := os.ReadFile(filepath.Join(outside, "precious"))
				info, err := os.Stat(filepath.Join(outside, "precious"))
				if len(entries) != 1 && !linkByOwner(place, name) || string(content) != "precious" || err != nil || info.Mode().Perm() != 0o640 {
					t.Errorf("what is outside was touched: %v, %q, %v, %v", entries, content, info, err)
				}
			})
		}
	}
}

// linkByOwner reports whether a link is the administrator's intention: spool_dir itself may be a link.
func linkByOwner(place, obstacle string) bool {
	return place == "." && obstacle == "link to a directory"
}

// fill creates a spool with a file at every place.
func fill(t *testing.T, dir string) {
	t.Helper()
	s, err := Open(dir, Options{Connection: "main"})
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, batchOf("calls", 0, 10)...)
	if err := s.Settle("calls", 3); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Bury([]record.DeadLetter{{Record: numbered("calls", 1)}}); err != nil {
		t.Fatal(err)
	}
	closeSpool(t, s)
}

// use executes all operations of the engine and the offline tool on a spool, with any result.
func use(root string) {
	_, _ = List(root)
	_, _ = Find(root)
	dir := Dir(root, "main")
	if v, err := OpenView(dir); err == nil {
		_, _, _ = v.Verify()
		_ = v.Logs()
		_ = v.SetAside()
	}
	s, err := Open(dir, Options{Connection: "main"})
	if err != nil {
		return
	}
	_, _ = s.Append("calls", batchOf("calls", 20, 30))
	_, _ = s.Append("other", batchOf("other", 0, 3))
	_ = s.Settle("calls", 5)
	_, _ = s.Bury([]record.DeadLetter{{Record: numbered("calls", 1)}})
	_, _, _, _ = s.Exhume(10)
	_ = s.Close()
}

// A sparse file of 200 GB hung the offline tool, which searched all of it for records.
func TestOpen_SegmentOf200GB_SetAsideUnread(t *testing.T) {
	for _, place := range []string{"topics/calls/00000000000000000001.seg", "topics/calls/00000000000000000099.seg", "dead-letters/00000000000000000001.seg"} {
		dir := newDir(t)
		fill(t, dir)
		if err := os.Truncate(filepath.Join(dir, place), 200<<30); errors.Is(err, os.ErrNotExist) {
			f, err := os.Create(filepath.Join(dir, place))
			if err == nil {
				err = errors.Join(f.Truncate(200<<30), f.Close())
			}
			if err != nil {
				t.Fatal(err)
			}
		} else if err != nil {
			t.Skip("SKIPPED: this file system has no file of 200 GB:", err)
		}
		v, err := OpenView(dir)
		if err != nil {
			t.Fatal(err)
		}
		damages, _, err := v.Verify()
		said := false
		for _, d := range damages {
			said = said || strings.Contains(d.What, "more than any segment") && !d.Harmless
		}
		if !said || err != nil {
			t.Errorf("%s: verified with %v, %v", place, damages, err)
		}
		s, err := Open(dir, Options{Connection: connection})
		if err != nil {
			t.Fatal(err)
		}
		if u := s.Usage(); u.SetAside != 1 {
			t.Errorf("%s: usage %+v", place, u)
		}
		_ = s.Close()
	}
}

// Root followed links in another user's spool, and changed the owner of its files.
func TestOpen_SpoolOfOtherUser_RefusedWithRemedy(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give files to another user")
	}
	for _, place := range []string{".", "main"} {
		root := filepath.Join(t.TempDir(), "spool")
		fill(t, Dir(root, "main"))
		path := filepath.Join(root, place)
		if err := os.Chown(path, 12345, 12345); err != nil {
			t.Fatal(err)
		}
		_, err := Open(Dir(root, "main"), Options{Connection: "main"})
		var owner *OwnerError
		if !errors.As(err, &owner) || !strings.Contains(err.Error(), "user 12345") || !strings.Contains(err.Error(), "chown -R 0 "+path) {
			t.Errorf("%s: opening: %v", place, err)
		}
		if _, err := List(root); !errors.As(err, &owner) {
			t.Errorf("%s: listing: %v", place, err)
		}
	}
}

// A link of an attacker is not followed; a link of the administrator is.
func TestOpen_SpoolDirIsLink_FollowedWhenOwnersOrRoots(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give files to another user")
	}
	real, link := t.TempDir(), filepath.Join(t.TempDir(), "link")
	if err := os.Symlink(real, link); err != nil {
		t.Fatal(err)
	}
	s, err := Open(Dir(link, "main"), Options{Connection: "main"})
	if err != nil {
		t.Fatal(err)
	}
	appendAll(t, s, batchOf("calls", 0, 10)...)
	closeSpool(t, s)
	if found, err := List(link); len(found) != 1 || !found[0].Records || err != nil {
		t.Errorf("found %v, %v", found, err)
	}
	if err := os.Lchown(link, 12345, 12345); err != nil {
		t.Fatal(err)
	}
	if _, err := Open(Dir(link, "main"), Options{Connection: "main"}); err == nil || !strings.Contains(err.Error(), "symbolic link of user 12345") {
		t.Errorf("opening through a foreign link: %v", err)
	}
}
