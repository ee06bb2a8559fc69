package ingest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"reskafka/internal/frame"
)

// obstacles are preparations of another user at a path.
var obstacles = map[string]func(t *testing.T, path string){
	"named pipe": func(t *testing.T, path string) { must(t, syscall.Mkfifo(path, 0o666)) },
	"file":       func(t *testing.T, path string) { must(t, os.WriteFile(path, nil, 0o666)) },
	"link to a directory": func(t *testing.T, path string) {
		must(t, os.Symlink(t.TempDir(), path))
	},
	"dangling link":           func(t *testing.T, path string) { must(t, os.Symlink("/not/there", path)) },
	"directory open to all":   func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)); must(t, os.Chmod(path, 0o777)) },
	"directory of other user": func(t *testing.T, path string) { must(t, os.Mkdir(path, 0o700)); give(t, path, 12345) },
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// give changes the owner of a file, and skips the test where only root can.
func give(t *testing.T, path string, uid int) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give files to another user")
	}
	must(t, os.Lchown(path, uid, uid))
}

// A predictable path was occupied beforehand: Asterisk hung during its load, or lost its safety from kill -9.
func TestOpen_PathsOfEarlierVersionOccupied_StagesAndFinds(t *testing.T) {
	for name, occupy := range obstacles {
		t.Run(name, func(t *testing.T) {
			base := t.TempDir()
			occupy(t, earlierHome(base, os.Geteuid()))
			run, err := NewRun(base, "/spool")
			if err != nil {
				t.Fatal(err)
			}
			must(t, os.WriteFile(filepath.Join(run.Folder(), "slab-1"), slab("one", 0, "a"), 0o600))
			if n, err := run.Close(); n != 1 || err != nil {
				t.Fatalf("Close returned %d, %v", n, err)
			}
			found, _ := Find(base, "/spool")
			if got, want := text(found.Dead), fmt.Sprintf("%d: one,a\n", os.Getpid()); got != want {
				t.Errorf("found %q, want %q", got, want)
			}
		})
	}
}

// A folder transferred to this user may contain anything.
func TestFind_OddFilesInFolder_ReportsThem(t *testing.T) {
	for name, occupy := range obstacles {
		for _, file := range []string{"lock", "slabs", "slab-2"} {
			if strings.HasPrefix(name, "directory of") {
				continue
			}
			t.Run(name+" named "+file, func(t *testing.T) {
				base := t.TempDir()
				run, err := NewRun(base, "/spool")
				if err != nil {
					t.Fatal(err)
				}
				must(t, os.WriteFile(filepath.Join(run.Folder(), "slab-1"), slab("one", 0, "a"), 0o600))
				_ = os.Remove(filepath.Join(run.Folder(), file))
				occupy(t, filepath.Join(run.Folder(), file))
				run.release()
				found, err := Find(base, "/spool")
				bad := 0
				for _, d := range found.Dead {
					bad += len(d.Bad)
				}
				if err == nil && bad == 0 && name != "file" && name != "directory open to all" {
					t.Errorf("found %s, and nothing is reported", text(found.Dead))
				}
			})
		}
	}
}

func TestOpen_NoteKept_FollowsMovedSpool(t *testing.T) {
	base, spool := t.TempDir(), filepath.Join(t.TempDir(), "spool")
	must(t, os.Mkdir(spool, 0o755))
	run, err := NewRun(base, spool)
	if err != nil {
		t.Fatal(err)
	}
	must(t, os.WriteFile(filepath.Join(run.Folder(), "slab-1"), slab("one", 0, "a"), 0o600))
	_, _ = run.Close()
	must(t, os.Rename(spool, spool+"2"))
	found, err := Find(base, spool+"2")
	if err != nil || len(found.Dead) != 1 {
		t.Fatalf("found %s, %v", text(found.Dead), err)
	}
	s := found.Dead[0].Slabs[0]
	_ = s.Each(func(f *frame.Frame) { s.State(f.At).Store(frame.Done) }, nil)
	must(t, found.Dead[0].Close())
	empty(t, base)
	if notes, _ := os.ReadDir(filepath.Join(spool+"2", notesDir)); len(notes) > 0 {
		t.Errorf("notes are left: %v", notes)
	}
}

// Two PBXs may share a spool directory by mistake: neither takes the other's folder.
func TestFind_TwoRunsShareSpool_LeavesTheLiveOne(t *testing.T) {
	base, spool := t.TempDir(), t.TempDir()
	one, err := NewRun(base, spool)
	must(t, err)
	two, err := NewRun(base, spool)
	must(t, err)
	if found, err := Find(base, spool); err != nil || len(found.Dead)+len(found.Foreign) > 0 {
		t.Errorf("found %+v, %v", found, err)
	}
	for _, run := range []*Run{one, two} {
		if _, err := run.Close(); err != nil {
			t.Error(err)
		}
	}
	empty(t, base)
}

// Records staged by an Asterisk of another user stayed in shared memory silently, and were not found after a
// chown.
func TestFind_FolderOfOtherUser_NamesItUntilItIsGiven(t *testing.T) {
	for _, earlier := range []bool{false, true} {
		t.Run(fmt.Sprint("earlier version=", earlier), func(t *testing.T) {
			base, spool := t.TempDir(), t.TempDir()
			var folder string
			if earlier {
				spool = "/spool"
				leave(t, base, "7-1700000000000000002", map[string][]byte{"slab-1": slab("one", 0, "a")})
				folder = earlierHome(base, os.Geteuid())
				if os.Geteuid() != 0 {
					t.Skip("SKIPPED: needs root")
				}
				asOther(t, base, spool, folder, 0)
				return
			}
			run, err := NewRun(base, spool)
			must(t, err)
			folder = run.Folder()
			must(t, os.WriteFile(filepath.Join(folder, "slab-1"), slab("one", 0, "a"), 0o600))
			run.release()
			asOther(t, base, spool, folder, 12345)
		})
	}
}

// asOther checks the result of Find for a folder of owner, in a process of another user.
func asOther(t *testing.T, base, spool, folder string, owner int) {
	t.Helper()
	me := 0
	if owner == 0 {
		me = 12345
	}
	for _, path := range []string{base, filepath.Dir(base)} {
		must(t, os.Chmod(path, 0o755))
	}
	own(t, folder, owner)
	if spool != "/spool" {
		own(t, filepath.Join(spool, "kafka"), me)
	}
	found := findAs(t, base, spool, me)
	if !strings.Contains(found, fmt.Sprintf("chown -R %d %s", me, folder)) || !strings.Contains(found, "dead:\n") {
		t.Errorf("before it is given: %s", found)
	}
	own(t, folder, me)
	must(t, os.Chmod(base, 0o777))
	if found := findAs(t, base, spool, me); !strings.Contains(found, "one,a") || strings.Contains(found, "chown") {
		t.Errorf("after it was given: %s", found)
	}
}

func own(t *testing.T, path string, uid int) {
	t.Helper()
	must(t, filepath.WalkDir(path, func(path string, _ os.DirEntry, err error) error {
		if err == nil {
			give(t, path, uid)
		}
		return err
	}))
}

// findAs returns the result of Find in a process of another user.
func findAs(t *testing.T, base, spool string, uid int) string {
	t.Helper()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = []string{"STAGED_TEST_FIND=" + base + ":" + spool}
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(uid)}}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	return string(out)
}
