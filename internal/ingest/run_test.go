package ingest

import (
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
)

// earlierHome returns an earlier version's common folder for the runs of a user.
func earlierHome(base string, uid int) string {
	return filepath.Join(base, fmt.Sprintf("res_kafka-%d-%s", uid, hashOf("/spool")))
}

// leave creates a folder like a killed run of an earlier version: with a free lock.
func leave(t *testing.T, base, name string, files map[string][]byte) string {
	t.Helper()
	folder := filepath.Join(earlierHome(base, os.Geteuid()), name)
	if err := os.MkdirAll(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	if files == nil {
		files = map[string][]byte{}
	}
	files[lockName] = nil
	for file, content := range files {
		if err := os.WriteFile(filepath.Join(folder, file), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return folder
}

// slab is a file with frames of these keys.
func slab(label string, first uint64, keys ...string) []byte {
	var frames []byte
	for _, key := range keys {
		frames = frametest.Append(frames, frametest.Frame{Topic: "t", Key: []byte(key)})
	}
	return frametest.Slab(label, 1, first, frames)
}

func mustFind(t *testing.T, base string) []*Dead {
	t.Helper()
	found, err := Find(base, "/spool")
	if err != nil {
		t.Fatal(err)
	}
	return found.Dead
}

// text renders the found runs.
func text(dead []*Dead) string {
	var b strings.Builder
	for _, d := range dead {
		fmt.Fprintf(&b, "%s:", d.PID)
		for _, s := range d.Slabs {
			fmt.Fprintf(&b, " %s", s.Label)
			_ = s.Each(func(f *frame.Frame) { fmt.Fprintf(&b, ",%s", f.Key) }, func(*frame.Frame, error) { b.WriteString(",?") })
		}
		b.WriteString("\n")
	}
	return b.String()
}

func empty(t *testing.T, base string) {
	t.Helper()
	if rest, _ := filepath.Glob(filepath.Join(base, "*")); len(rest) > 0 {
		t.Errorf("left: %q", rest)
	}
}

// TestARunThatEndsLeavesWhatItCannotRead checks that a run leaves unreadable files for the next version.
func TestARunThatEndsLeavesWhatItCannotRead(t *testing.T) {
	base := t.TempDir()
	r, err := NewRun(base, "/spool")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(r.Folder(), "slab-1")
	other := slab("one", 0, "k")
	other[frame.SlabLayout]++
	if err := os.WriteFile(path, other, 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Close(); n != 0 || err == nil {
		t.Errorf("Close gave %d, %v", n, err)
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
}

func TestARunThatEndsLeavesNothing(t *testing.T) {
	base := t.TempDir()
	r, err := NewRun(base, "/spool")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(r.Folder())
	if err != nil || info.Mode().Perm() != 0o700 {
		t.Fatalf("%v, %v", info, err)
	}
	if dead := mustFind(t, base); len(dead) != 0 {
		t.Errorf("a run that lives was found: %s", text(dead))
	}
	if other, err := NewRun(base, "/elsewhere"); err != nil || len(mustFind(t, base)) > 0 {
		t.Errorf("two PBXs share a folder, %v", err)
	} else if _, err := other.Close(); err != nil {
		t.Error(err)
	}
	if n, err := r.Close(); n != 0 || err != nil {
		t.Errorf("%d waiting, %v", n, err)
	}
	empty(t, base)
}

func TestWhatIsNotDoneGoesToTheNextRun(t *testing.T) {
	base := t.TempDir()
	r, err := NewRun(base, "/spool")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(r.Folder(), "slab-1"), slab("one", 0, "a", "b"), 0o600); err != nil {
		t.Fatal(err)
	}
	if n, err := r.Close(); n != 2 || err != nil {
		t.Errorf("%d waiting, %v", n, err)
	}
	dead := mustFind(t, base)
	if got, want := text(dead), fmt.Sprintf("%d: one,a,b\n", os.Getpid()); got != want {
		t.Fatalf("found %q, want %q", got, want)
	}
	if again := mustFind(t, base); len(again) != 0 {
		t.Errorf("what somebody has taken over was found again: %s", text(again))
	}
	// Half of it is done when this process ends, too.
	s := dead[0].Slabs[0]
	done := false
	_ = s.Each(func(f *frame.Frame) {
		if !done {
			s.State(f.At).Store(frame.Done)
			done = true
		}
	}, nil)
	if err := dead[0].Close(); err != nil {
		t.Error(err)
	}
	dead = mustFind(t, base)
	if got, want := text(dead), fmt.Sprintf("%d: one,b\n", os.Getpid()); got != want {
		t.Fatalf("found %q, want %q", got, want)
	}
	s = dead[0].Slabs[0]
	_ = s.Each(func(f *frame.Frame) { s.State(f.At).Store(frame.Done) }, nil)
	if err := dead[0].Close(); err != nil {
		t.Error(err)
	}
	empty(t, base)
}

func TestFindOrdersRunsLabelsAndSlabs(t *testing.T) {
	base := t.TempDir()
	leave(t, base, "7-1700000000000000002", map[string][]byte{"slab-1": slab("one", 0, "late")})
	leave(t, base, "900-1700000000000000001", map[string][]byte{
		"slab-1": slab("two", 3, "g"), "slab-2": slab("one", 5, "c", "d"), "slab-3": slab("one", 2, "a", "b"), "slab-4": slab("two", 0, "e", "f"),
	})
	if got, want := text(mustFind(t, base)), "900: one,a,b one,c,d two,e,f two,g\n7: one,late\n"; got != want {
		t.Errorf("found %q, want %q", got, want)
	}
}

// region returns a slab in the form of a slab among others in one file.
func region(slab []byte) []byte {
	slab = append(slab, make([]byte, frame.SlabBytes-len(slab))...)
	binary.NativeEndian.PutUint64(slab[frame.SlabSize:], frame.SlabBytes)
	return slab
}

// A file has many slabs, with gaps between them, perhaps without memory.
func TestFindReadsSlabsOfOneFile(t *testing.T) {
	base := t.TempDir()
	spoiled := region(slab("one", 0, "spoiled"))
	spoiled[0]++
	file := slices.Concat(region(slab("one", 7, "d")), make([]byte, 2*frame.SlabBytes), spoiled, region(slab("one", 3, "b", "c")))
	leave(t, base, "5-1", map[string][]byte{slabsName: file, "slab-1": slab("one", 1, "a")})
	dead := mustFind(t, base)
	if got, want := text(dead), "5: one,a one,b,c one,d\n"; got != want {
		t.Errorf("found %q, want %q", got, want)
	}
	if bad := dead[0].Bad; len(bad) != 1 || !strings.Contains(bad[0].Error(), fmt.Sprint("at byte ", 3*frame.SlabBytes)) {
		t.Errorf("cannot be read: %v", bad)
	}
	for _, s := range dead[0].Slabs {
		_ = s.Each(func(f *frame.Frame) { s.State(f.At).Store(frame.Done) }, nil)
	}
	if n := dead[0].Waiting(); n != 0 {
		t.Errorf("%d wait", n)
	}
	if err := dead[0].Close(); err != nil {
		t.Error(err)
	}
	again := mustFind(t, base)
	if len(again) != 1 || again[0].Waiting() != 0 || len(again[0].Bad) != 1 {
		t.Errorf("found again: %s, %v", text(again), again)
	}
}

// Leftovers of a process killed at an awkward moment block nothing.
func TestFindTidiesUp(t *testing.T) {
	base := t.TempDir()
	leave(t, base, "5-1", map[string][]byte{"slab-1": nil, "slab-2": make([]byte, 65536), "slab-3": slab("one", 0)})
	leave(t, base, unfinished+"6-2", nil)
	if err := os.Remove(filepath.Join(leave(t, base, "7-3", nil), lockName)); err != nil {
		t.Fatal(err)
	}
	if dead := mustFind(t, base); len(dead) != 0 {
		t.Errorf("found %s", text(dead))
	}
	empty(t, base)
}

// Unreadable files are reported and stay, and so does the rest of the folder until all frames are done.
func TestFindKeepsWhatItCannotRead(t *testing.T) {
	base := t.TempDir()
	newer := slab("one", 0, "a")
	newer[frame.SlabLayout]++
	short := slab("one", 0, "b")
	folder := leave(t, base, "5-1", map[string][]byte{"slab-1": newer, "slab-2": short[:len(short)-8], "slab-3": slab("one", 0, "c")})
	if err := os.Symlink("/etc/passwd", filepath.Join(folder, "slab-4")); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		dead := mustFind(t, base)
		if len(dead) != 1 || len(dead[0].Bad) != 3 {
			t.Fatalf("found %s, %v", text(dead), dead)
		}
		for _, s := range dead[0].Slabs {
			_ = s.Each(func(f *frame.Frame) { s.State(f.At).Store(frame.Done) }, nil)
		}
		if err := dead[0].Close(); err != nil {
			t.Error(err)
		}
	}
}

// After the replacement of an engine, another PBX with the same spool directory must not treat the folder as
// a killed run's. The next engine must use the same folder.
func TestJoinRun_EngineReplaced_KeepsFolder(t *testing.T) {
	base := t.TempDir()
	asterisk, err := NewRun(base, "/spool")
	must(t, err)
	must(t, os.WriteFile(filepath.Join(asterisk.Folder(), "slab-1"), slab("one", 0, "a"), 0o600))
	first, err := JoinRun(base, "/spool", asterisk.Folder())
	must(t, err)
	first.release() // killed
	if dead := mustFind(t, base); len(dead) > 0 {
		t.Errorf("found while Asterisk lives: %s", text(dead))
	}
	second, err := JoinRun(base, "/spool", asterisk.Folder())
	must(t, err)
	if second.Folder() != asterisk.Folder() || second.Removed() {
		t.Errorf("the folder is %s, removed %v", second.Folder(), second.Removed())
	}
	asterisk.release() // killed
	if dead := mustFind(t, base); len(dead) > 0 {
		t.Errorf("found while its engine lives: %s", text(dead))
	}
	if n, err := second.Close(); n != 1 || err != nil {
		t.Errorf("%d waiting, %v", n, err)
	}
	if got, want := text(mustFind(t, base)), fmt.Sprintf("%d: one,a\n", os.Getpid()); got != want {
		t.Errorf("found %q, want %q", got, want)
	}
	for _, folder := range []string{"", "/etc", base + "/res_kafka", filepath.Join(filepath.Dir(base), filepath.Base(second.Folder())), second.Folder() + "/.."} {
		if _, err := JoinRun(base, "/spool", folder); err == nil {
			t.Errorf("%q can be used", folder)
		}
	}
}

// TestMain lets the test program be a process to kill.
func TestMain(m *testing.M) {
	if log := os.Getenv("INGEST_TEST_READER"); log != "" {
		runReader(log, os.Getenv("INGEST_TEST_FOLDER"), os.Getenv("INGEST_TEST_DURABLE") == "true")
		os.Exit(0)
	}
	if base, spool, ok := strings.Cut(os.Getenv("STAGED_TEST_FIND"), ":"); ok {
		found, err := Find(base, spool)
		fmt.Printf("%v\n%v\ndead:\n%s", err, found.Foreign, text(found.Dead))
		os.Exit(0)
	}
	if base := os.Getenv("STAGED_TEST_BASE"); base != "" {
		for {
			r, err := NewRun(base, "/spool")
			if err != nil {
				panic(err)
			}
			fmt.Println(r.Folder())
			if os.Getenv("STAGED_TEST_STAY") != "" {
				time.Sleep(time.Hour)
			}
			if _, err := r.Close(); err != nil {
				panic(err)
			}
		}
	}
	os.Exit(m.Run())
}

// process starts such a process; ended is closed at its end.
func process(t *testing.T, base string, stay string) (cmd *exec.Cmd, ended <-chan struct{}) {
	t.Helper()
	cmd = exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "STAGED_TEST_BASE="+base, "STAGED_TEST_STAY="+stay)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 4096)); err != nil {
		t.Fatal(err)
	}
	end := make(chan struct{})
	go func() { // continues its work
		_, _ = io.Copy(io.Discard, out)
		_ = cmd.Wait()
		close(end)
	}()
	t.Cleanup(func() { _ = cmd.Process.Kill(); <-end })
	return cmd, end
}

// A run is over with the end of its process, and not before.
func TestAKilledProcessLosesItsLock(t *testing.T) {
	base := t.TempDir()
	cmd, ended := process(t, base, "yes")
	folders, _ := filepath.Glob(Pattern(base, "/spool"))
	if len(folders) != 1 {
		t.Fatalf("folders %q", folders)
	}
	if err := os.WriteFile(filepath.Join(folders[0], "slab-1"), slab("one", 0, "a"), 0o600); err != nil {
		t.Fatal(err)
	}
	if dead := mustFind(t, base); len(dead) != 0 {
		t.Fatalf("found %s while it lives", text(dead))
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-ended
	if got, want := text(mustFind(t, base)), fmt.Sprintf("%d: one,a\n", cmd.Process.Pid); got != want {
		t.Errorf("found %q, want %q", got, want)
	}
}

// Concurrent starts, ends and searches of runs neither fail nor lose folders.
func TestRunsDoNotDisturbEachOther(t *testing.T) {
	base := t.TempDir()
	var others []<-chan struct{}
	for range 2 {
		_, ended := process(t, base, "")
		others = append(others, ended)
	}
	for range 300 {
		r, err := NewRun(base, "/spool")
		if err != nil {
			t.Fatal(err)
		}
		if found, err := Find(base, "/spool"); err != nil || len(found.Dead) != 0 {
			t.Fatalf("found %s, %v", text(found.Dead), err)
		}
		if _, err := os.Stat(filepath.Join(r.Folder(), lockName)); err != nil {
			t.Fatal(err)
		}
		if n, err := r.Close(); n != 0 || err != nil {
			t.Fatal(n, err)
		}
		for _, ended := range others {
			select {
			case <-ended:
				t.Fatal("another process has failed")
			default:
			}
		}
	}
}
