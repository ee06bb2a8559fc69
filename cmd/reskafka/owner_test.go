package main

import (
	"context"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"reskafka/internal/spool"
)

// TestMain lets the test program be the command.
func TestMain(m *testing.M) {
	if os.Getenv("RESKAFKA_TEST_COMMAND") != "" {
		os.Exit(run(context.Background(), os.Args[1:], os.Stdout, os.Stderr))
	}
	status := m.Run()
	_ = os.RemoveAll(buildDir)
	os.Exit(status)
}

// asUser runs the command in another process.
func asUser(t *testing.T, uid uint32, args ...string) (output string, ok bool) {
	t.Helper()
	cmd := exec.CommandContext(testContext(t), "/proc/self/exe", args...)
	cmd.Env, cmd.Dir = []string{"RESKAFKA_TEST_COMMAND=1"}, "/"
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uid, Gid: uid}}
	out, err := cmd.CombinedOutput()
	return string(out), err == nil
}

const owner = 12345

// spoolOf creates a spool of owner, with records of a topic.
func spoolOf(t *testing.T, topic string, count int) (root, dir string) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give files to another user")
	}
	root, dir = spoolWith(t, func(s *spool.Spool) { spooled(t, s, topic, 0, count) })
	for _, path := range []string{root, filepath.Dir(root)} {
		if err := os.Chmod(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for path := filepath.Dir(root); path != "/"; path = filepath.Dir(path) {
		if info, err := os.Stat(path); err != nil || info.Mode()&0o001 == 0 {
			t.Skipf("SKIPPED: other users cannot reach %s, the directory of temporary files", path)
		}
	}
	err := filepath.WalkDir(root, func(path string, _ fs.DirEntry, err error) error {
		if err == nil {
			err = os.Lchown(path, owner, owner)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return root, dir
}

// Run by root, the command followed another user's preparations in the spool, and changed the owner of its
// files.
func TestSpool_RunByRoot_WorksAsOwner(t *testing.T) {
	address, _ := startBroker(t)
	root, dir := spoolOf(t, "calls", 20)
	secret := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(secret, []byte("secret"), 0o600); err != nil {
		t.Fatal(err)
	}
	// Preparations of the owner: root would write through the link, and remove files behind it.
	for place, target := range map[string]string{"topics/calls/settled": secret, "damaged": filepath.Dir(secret), "topics/events": filepath.Dir(secret)} {
		path := filepath.Join(dir, place)
		_ = os.Remove(path)
		if err := os.Symlink(target, path); err != nil {
			t.Fatal(err)
		}
	}
	conf := filepath.Join(t.TempDir(), "kafka.conf") // which only root can read
	if err := os.WriteFile(conf, []byte("[main]\ntype = connection\nbrokers = "+address+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if out, ok := asUser(t, 0, "spool", "ls", root); !ok || !strings.Contains(out, "calls") {
		t.Errorf("ls: %s", out)
	}
	if out, ok := asUser(t, 0, "spool", "replay", dir, "--config", conf); !strings.Contains(out, "20 records acknowledged") {
		t.Errorf("replay: %v, %s", ok, out)
	}
	if text, err := os.ReadFile(secret); string(text) != "secret" || err != nil {
		t.Errorf("the file behind a link is %q, %v", text, err)
	}
	err := filepath.WalkDir(root, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.Type()&fs.ModeSymlink != 0 {
			return err
		}
		if info, err := e.Info(); err == nil && info.Sys().(*syscall.Stat_t).Uid != owner {
			t.Errorf("%s belongs to user %d", path, info.Sys().(*syscall.Stat_t).Uid)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}

func TestSpool_RunByOther_RefusedWithCommand(t *testing.T) {
	root, dir := spoolOf(t, "calls", 1)
	if out, ok := asUser(t, 23456, "spool", "ls", root); ok || !strings.Contains(out, "sudo -u '#12345' reskafka spool ls "+root) {
		t.Errorf("ls of all: %s", out)
	}
	if out, ok := asUser(t, 23456, "spool", "ls", filepath.Join(dir, "topics")); ok || !strings.Contains(out, "as the user that Asterisk runs as") {
		t.Errorf("ls of what cannot be seen: %s", out)
	}
}

// A named pipe called lock hung the command.
func TestSpool_LockIsNamedPipe_Error(t *testing.T) {
	_, dir := spoolWith(t, func(s *spool.Spool) { spooled(t, s, "calls", 0, 3) })
	lock := filepath.Join(dir, "lock")
	if err := os.Remove(lock); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Mkfifo(lock, 0o600); err != nil {
		t.Fatal(err)
	}
	for _, args := range [][]string{{"ls", dir}, {"verify", dir}, {"dump", dir}, {"replay", dir, "--brokers", "127.0.0.1:1"}} {
		if status, _, stderr := runSpool(t, args...); status != exitError || !strings.Contains(stderr, "is a named pipe and not a file") {
			t.Errorf("%s: status %d, %q", args[0], status, stderr)
		}
	}
}
