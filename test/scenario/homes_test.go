package scenario

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"reskafka/test/confine"
	"reskafka/test/pbx"
)

// asteriskUser is the user id of Asterisk in these tests. No such user has to exist.
const asteriskUser = 12345

// passwd and group give the user a name where a test shows these files to Asterisk.
var passwd = []confine.Mount{
	{Kind: confine.File, Path: "/etc/passwd", Text: fmt.Sprintf("root:x:0:0::/root:/bin/sh\nasterisk:x:%d:%[1]d::/nonexistent:/bin/false\n", asteriskUser)},
	{Kind: confine.File, Path: "/etc/group", Text: fmt.Sprintf("root:x:0:\nasterisk:x:%d:\n", asteriskUser)},
}

// Groups of system calls of systemd. Asterisk itself needs sched_setscheduler, so a unit must not kill
// @resources.
var (
	privileged = []int{
		syscall.SYS_FCHOWN, syscall.SYS_FCHOWNAT, syscall.SYS_SETTIMEOFDAY, syscall.SYS_ADJTIMEX, syscall.SYS_ACCT, syscall.SYS_CAPSET,
		syscall.SYS_CHROOT, syscall.SYS_MOUNT, syscall.SYS_UMOUNT2, syscall.SYS_PIVOT_ROOT, syscall.SYS_SETGROUPS, syscall.SYS_SETUID,
		syscall.SYS_SETREUID, syscall.SYS_SETRESUID, syscall.SYS_SETFSUID, syscall.SYS_SETHOSTNAME, syscall.SYS_VHANGUP,
	}
	resources = []int{
		syscall.SYS_SETPRIORITY, syscall.SYS_SCHED_SETSCHEDULER, syscall.SYS_SCHED_SETPARAM, syscall.SYS_SCHED_SETAFFINITY,
		syscall.SYS_SETRLIMIT, syscall.SYS_IOPRIO_SET,
	}
)

// home is a surrounding in which res_kafka has to work.
type home struct {
	name     string
	args     []string
	spaces   uintptr
	confined func(w *confinedWorld) *confine.Spec
	user     int  // Asterisk's user in the end
	chown    bool // the private directory belongs to the user
	files    map[string]string
	modules  []string // nil = all of ours
	expect   []string // patterns of all warnings and errors about Kafka; each has to match, and no other line may appear
}

// confinedWorld has the folders of Asterisk, for a Spec.
type confinedWorld struct{ dir, root, install, self string }

// keep returns the folders to show again in a hidden part of the file system.
func (w *confinedWorld) keep() []confine.Mount {
	return []confine.Mount{
		{Kind: confine.Keep, Path: w.dir}, {Kind: confine.Keep, Path: w.root}, {Kind: confine.Keep, Path: w.install},
		{Kind: confine.Keep, Path: filepath.Dir(w.self)},
	}
}

// container is the set-up of a container runtime: processes of its own, hidden folders of the machine, 64 MB
// of shared memory.
func (w *confinedWorld) container(more ...confine.Mount) []confine.Mount {
	return slices.Concat(w.keep(), []confine.Mount{
		{Kind: confine.Empty, Path: "/tmp"}, {Kind: confine.Empty, Path: "/root"}, {Kind: confine.Empty, Path: "/dev/shm", Text: "size=64m,mode=1777"},
		{Kind: confine.Proc},
	}, more)
}

const (
	mountSpace     = syscall.CLONE_NEWNS
	containerSpace = syscall.CLONE_NEWNS | syscall.CLONE_NEWPID | syscall.CLONE_NEWIPC | syscall.CLONE_NEWUTS
)

// homes are the surroundings of docs/tests.md.
var homes = []home{
	{name: "process 1 of a container", spaces: containerSpace, confined: func(w *confinedWorld) *confine.Spec {
		return &confine.Spec{Mounts: w.container()}
	}},
	{
		name: "a container without rights", spaces: containerSpace, user: asteriskUser, chown: true,
		confined: func(w *confinedWorld) *confine.Spec {
			return &confine.Spec{
				Mounts:        w.container(confine.Mount{Kind: confine.ReadOnly, Path: "/"}),
				NoBoundingSet: true, User: asteriskUser, NoNewPrivileges: true,
			}
		},
	},
	{
		name: "the user asterisk", spaces: mountSpace, user: asteriskUser, chown: true,
		confined: func(w *confinedWorld) *confine.Spec {
			return &confine.Spec{Mounts: append(w.keep(), confine.Mount{Kind: confine.Empty, Path: "/root"}), User: asteriskUser}
		},
	},
	{
		name: "root with -U", spaces: mountSpace, user: asteriskUser, chown: true, args: []string{"-U", "asterisk", "-G", "asterisk"},
		confined: func(w *confinedWorld) *confine.Spec {
			return &confine.Spec{Mounts: slices.Concat(w.keep(), []confine.Mount{{Kind: confine.Empty, Path: "/root"}}, passwd)}
		},
	},
	{name: "real-time", args: []string{"-p"}},
	{name: "no new privileges", confined: func(*confinedWorld) *confine.Spec { return &confine.Spec{NoNewPrivileges: true} }},
	{
		name: "a hardened unit", spaces: mountSpace, user: asteriskUser, chown: true,
		confined: func(w *confinedWorld) *confine.Spec {
			return &confine.Spec{
				Mounts: slices.Concat(w.keep(), []confine.Mount{
					{Kind: confine.Devices}, {Kind: confine.Empty, Path: "/tmp"}, {Kind: confine.Empty, Path: "/root"}, {Kind: confine.ReadOnly, Path: "/"},
				}),
				NoNewPrivileges: true, NoBoundingSet: true, User: asteriskUser, DenyWriteExecute: true,
				Families: []int{syscall.AF_UNIX, syscall.AF_INET, syscall.AF_INET6}, Denied: slices.Concat(privileged, resources),
			}
		},
	},
	{
		name: "a unit whose filter kills", spaces: mountSpace, user: asteriskUser, chown: true,
		confined: func(w *confinedWorld) *confine.Spec {
			return &confine.Spec{
				Mounts: append(w.keep(), confine.Mount{Kind: confine.Empty, Path: "/root"}), User: asteriskUser, NoNewPrivileges: true,
				Killed: privileged,
			}
		},
	},
}

// TestHomes_RecordsArrive runs Asterisk in containers and units. Records and call records arrive, also after
// an engine's death. The log has only the complaints of the row.
func TestHomes_RecordsArrive(t *testing.T) {
	for _, h := range homes {
		t.Run(h.name, func(t *testing.T) {
			t.Parallel()
			w := newHome(t, h)
			w.boot()
			w.lives(h)
		})
	}
}

// newHome prepares an Asterisk in a surrounding, or skips the test without the rights to.
func newHome(t *testing.T, h home) *world {
	t.Helper()
	if os.Geteuid() != 0 && (h.spaces != 0 || h.user != 0) {
		t.Skip("SKIPPED: only root can make namespaces and become another user")
	}
	if slices.Contains(h.args, "-p") && !mayBeRealTime() {
		t.Skip("SKIPPED: this user may not have real-time threads")
	}
	files := map[string]string{
		"cdr_kafka.conf":  "[global]\nconnection = one\ntopic = calls-%ID%\n",
		"extensions.conf": "[calls]\nexten => s,1,Answer()\n same => n,Hangup()\n",
	}
	for name, text := range h.files {
		files[name] = text
	}
	o := options{parts: 1, files: files, modules: h.modules, args: h.args, spaces: h.spaces, unbooted: true}
	o.confine = h.confined
	w := newWorld(t, o)
	w.must(os.Chmod(w.dir, 0o755))
	if h.chown {
		w.must(w.pbx.Own(asteriskUser))
	}
	return w
}

// lives uses an Asterisk in a surrounding and stops it.
func (w *world) lives(h home) {
	w.Helper()
	if loaded := w.cli("module show like res_kafka"); !regexp.MustCompile(`\d +Running`).MatchString(loaded) {
		w.Fatalf("the module does not run:\n%s", strings.Join(w.pbx.LogLines(), "\n"))
	}
	topic := w.name("t")
	produce := func() {
		w.Helper()
		file := w.probeFile([2][]byte{nil, []byte("a")}, [2][]byte{nil, []byte("b")})
		w.must(os.Chmod(file, 0o644))
		w.expect(`accepted 2 refused 0`, "kafka probe file one %s %s", topic, file)
	}
	w.waitServes()
	engine := w.pbx.EnginePID()
	w.ordinary(engine)
	if status := readStatus(w.T, engine); !strings.Contains(status, fmt.Sprintf("Uid:\t%d\t%[1]d\t%[1]d\t%[1]d\n", h.user)) {
		w.Errorf("the engine does not run as user %d: %s", h.user, status)
	}
	produce()
	w.cli("channel originate Local/s@calls/n application Echo")
	w.acknowledged("one", 4)
	w.must(syscall.Kill(engine, syscall.SIGKILL))
	w.wait("there is another engine", func() bool { now := w.pbx.EnginePID(); return now != 0 && now != engine })
	w.waitServes()
	produce()
	// Call records may repeat after the kill.
	w.until(`(?m)^\s*Acknowledged +[2-9]$`, "kafka show connection one")
	w.until(`(?m)^\s*Waiting +0\b`, "kafka show connection one")
	w.must(w.pbx.Stop(pbx.Gracefully))
	w.read(topic, 4)
	w.read(w.name("calls"), 2)
	w.complaints(append(h.expect, `The Kafka engine \(pid \d+\) (ended|was ended by signal 9); another one is started in 100 ms`)...)
}

func (w *world) waitServes() {
	w.Helper()
	w.until(`Process id: +\d`, "kafka show status")
}

func readStatus(t *testing.T, pid int) string {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		t.Fatal(err)
	}
	return string(status)
}

// complaints checks that the warnings and errors about Kafka match the patterns, in any order.
func (w *world) complaints(patterns ...string) {
	w.Helper()
	seen := make([]bool, len(patterns))
	about := regexp.MustCompile(`(WARNING|ERROR)\[.*([Kk]afka|\.go: )`)
	for _, line := range w.pbx.LogLines() {
		if !about.MatchString(line) {
			continue
		}
		expected := false
		for i, pattern := range patterns {
			if regexp.MustCompile(pattern).MatchString(line) {
				seen[i], expected = true, true
			}
		}
		if !expected {
			w.Errorf("the log complains: %s", line)
		}
	}
	for i, pattern := range patterns {
		if !seen[i] {
			w.Errorf("the log does not have %s", pattern)
		}
	}
}
