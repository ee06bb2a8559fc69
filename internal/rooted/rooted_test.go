package rooted

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func TestOpen_NoDirectory_NamesWhatItIs(t *testing.T) {
	top := t.TempDir()
	path := func(name string) string { return filepath.Join(top, name) }
	must(t, syscall.Mkfifo(path("pipe"), 0o600))
	must(t, os.WriteFile(path("file"), nil, 0o600))
	must(t, os.Symlink(top, path("link")))
	for name, want := range map[string]string{"pipe": "is a named pipe", "file": "is a file", "link": "is a symbolic link"} {
		if _, err := Open(path(name)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := Open(path("missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
}

func TestOpenFile_OddFiles_Refused(t *testing.T) {
	top, outside := t.TempDir(), t.TempDir()
	must(t, os.WriteFile(filepath.Join(outside, "precious"), []byte("text"), 0o600))
	must(t, syscall.Mkfifo(filepath.Join(top, "pipe"), 0o600))
	must(t, os.Symlink(filepath.Join(outside, "precious"), filepath.Join(top, "link")))
	must(t, os.Symlink(outside, filepath.Join(top, "folder")))
	d, err := Open(top)
	must(t, err)
	defer func() { _ = d.Close() }()
	for _, flag := range []int{os.O_RDONLY, os.O_WRONLY, os.O_RDWR | os.O_CREATE, os.O_WRONLY | os.O_CREATE | os.O_EXCL} {
		for _, name := range []string{"pipe", "link", "folder/precious", "../" + filepath.Base(outside) + "/precious"} {
			if f, err := d.OpenFile(name, flag); err == nil {
				t.Errorf("%s was opened with flags %x", name, flag)
				_ = f.Close()
			}
		}
	}
	f, err := d.OpenFile("new", os.O_RDWR|os.O_CREATE)
	must(t, err)
	must(t, f.Close())
	if entries, err := d.ReadDir("."); err != nil || len(entries) != 4 || entries[0].Name() != "folder" {
		t.Errorf("entries %v, %v", entries, err)
	}
}

// The directory stays the same after another directory takes its path.
func TestDir_PathReplaced_KeepsDirectory(t *testing.T) {
	top := filepath.Join(t.TempDir(), "dir")
	must(t, os.Mkdir(top, 0o700))
	d, err := OpenOwn(top)
	must(t, err)
	defer func() { _ = d.Close() }()
	must(t, os.Rename(top, top+"2"))
	must(t, os.Symlink(t.TempDir(), top))
	f, err := d.OpenFile("new", os.O_WRONLY|os.O_CREATE)
	must(t, err)
	must(t, f.Close())
	if _, err := os.Stat(filepath.Join(top+"2", "new")); err != nil {
		t.Error(err)
	}
}

func TestResolve_Links_LastElementOnly(t *testing.T) {
	top := t.TempDir()
	path := func(name string) string { return filepath.Join(top, name) }
	must(t, os.MkdirAll(path("real/dir"), 0o700))
	must(t, os.Symlink("real", path("above")))
	must(t, os.Symlink("above/dir", path("link")))
	must(t, os.Symlink(path("link"), path("second")))
	must(t, os.Symlink("loop", path("loop")))
	for name, want := range map[string]string{
		"real/dir": "real/dir", "above/dir": "above/dir", "link": "above/dir", "second": "above/dir",
	} {
		if got, err := Resolve(path(name)); got != path(want) || err != nil {
			t.Errorf("%s is %s, %v", name, got, err)
		}
	}
	if _, err := Resolve(path("loop")); !errors.Is(err, syscall.ELOOP) {
		t.Errorf("a loop: %v", err)
	}
	if _, err := Resolve(path("missing")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("missing: %v", err)
	}
	// The text of this link is "/", and its target may be another directory.
	if got, err := Resolve("/proc/self/root/tmp"); got != "/proc/self/root/tmp" || err != nil {
		t.Errorf("%s, %v", got, err)
	}
}
