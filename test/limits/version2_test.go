package limits

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// TestWords_ControlGroups_AreFound guards the sentences about control groups of other machines: version 2,
// parent groups, and a container with its own group as the root. Files in a mount namespace replace the
// kernel's.
func TestWords_ControlGroups_AreFound(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	program := filepath.Join(folder, "words")
	if out, err := exec.Command("gcc", "-D_GNU_SOURCE", "-I../..", "-o", program, "testdata/words.c",
		"../../boundary/kernel_limits.c").CombinedOutput(); err != nil {
		t.Fatalf("building words.c: %v\n%s", err, out)
	}
	const unit = "/system.slice/asterisk.service"
	for _, c := range []struct {
		name, own string            // own = /proc/self/cgroup
		files     map[string]string // below /sys/fs/cgroup
		want      []string
	}{
		{"version 2", "0::" + unit + "\n", map[string]string{
			unit + "/pids.max": "60", unit + "/pids.current": "59", unit + "/memory.max": "268435456",
			unit + "/memory.events": "low 0\noom 2\noom_kill 3\noom_group_kill 1",
		}, []string{"pids.max of the control group /sys/fs/cgroup" + unit + " is 60;", "memory.max of the control group /sys/fs/cgroup" + unit +
			" is 256 MB;", "3 kills"}},
		{"version 2, limits of the slice", "0::" + unit + "\n", map[string]string{
			unit + "/pids.max": "max", unit + "/pids.current": "59", unit + "/memory.max": "max", "/system.slice/pids.max": "70",
			"/system.slice/pids.current": "70", "/system.slice/memory.max": "1073741824",
		}, []string{"pids.max of the control group /sys/fs/cgroup/system.slice is 70;", "/sys/fs/cgroup/system.slice is 1024 MB;", "0 kills"}},
		{"version 2, a container", "0::/docker/abc\n", map[string]string{
			"/pids.max": "100", "/pids.current": "100", "/memory.max": "536870912", "/memory.events": "oom_kill 1",
		}, []string{"pids.max of the control group /sys/fs/cgroup is 100;", "/sys/fs/cgroup is 512 MB;", "1 kills"}},
		{"version 1 beside version 2", "4:memory:/a\n3:pids:/a\n0::/\n", map[string]string{
			"/pids/a/pids.max": "80", "/pids/a/pids.current": "80", "/memory/a/memory.limit_in_bytes": "134217728",
			"/memory/a/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 7",
		}, []string{"pids.max of the control group /sys/fs/cgroup/pids/a is 80;", "memory.limit_in_bytes of the control group " +
			"/sys/fs/cgroup/memory/a is 128 MB;", "7 kills"}},
		{"no limit", "0::" + unit + "\n", map[string]string{unit + "/pids.max": "max", unit + "/pids.current": "5"},
			[]string{"RLIMIT_NPROC of this user is ", "for want of memory", "0 kills"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			printed := inGroups(t, program, c.own, c.files)
			for i, text := range strings.Split(strings.TrimSpace(printed), "\n") {
				if !strings.Contains(text, c.want[i]) {
					t.Errorf("%q, want %q in it", text, c.want[i])
				}
			}
		})
	}
}

// inGroups runs a program with the given files of control groups, and needs the right to mount.
func inGroups(t *testing.T, program, own string, files map[string]string) string {
	t.Helper()
	folder := t.TempDir()
	groups := filepath.Join(folder, "groups")
	for name, text := range files {
		path := filepath.Join(groups, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text+"\n"), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(folder, "own"), []byte(own), 0o644); err != nil {
		t.Fatal(err)
	}
	const script = `mount --make-rprivate / && mount --bind "$0/groups" /sys/fs/cgroup && mount --bind "$0/own" /proc/$$/cgroup && ` +
		`ulimit -S -u 5000 && exec "$1"`
	cmd := exec.Command("/bin/bash", "-c", script, folder, program)
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNS}
	out, err := cmd.CombinedOutput()
	if err != nil && os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can mount: ", err)
	}
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return string(out)
}
