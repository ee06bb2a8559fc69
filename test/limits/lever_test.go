package limits

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// lever is one limit of the kernel.
type lever struct {
	name   string // of the limit, as in the log
	remedy string // a regular expression for the advice in the log
	rlimit int    // -1: pids.max of a control group
	hard   bool   // also the hard limit: without CAP_SYS_RESOURCE nobody can raise it again
	// limit returns the limit with room for more beyond the present use of the processes.
	limit func(s *site, pid, more int) uint64
}

// Numbers of Linux missing in package syscall (asm-generic/resource.h).
const rlimitNproc = 6

var (
	groupThreads = lever{name: "pids.max", remedy: "raise it|TasksMax", rlimit: -1, limit: groupCount}
	userThreads  = lever{name: "RLIMIT_NPROC", remedy: "LimitNPROC", rlimit: rlimitNproc, limit: userCount}
	addresses    = lever{name: "RLIMIT_AS", remedy: "LimitAS|MemoryMax", rlimit: syscall.RLIMIT_AS, limit: addressCount}
	descriptors  = lever{name: "RLIMIT_NOFILE", remedy: "maxfiles|LimitNOFILE", rlimit: syscall.RLIMIT_NOFILE, limit: descriptorCount}
)

// set allows the process, or its control group, `more` beyond the present use, and returns the limit.
func (l lever) set(s *site, pid, more int) uint64 {
	s.Helper()
	limit := l.limit(s, pid, more)
	if l.rlimit < 0 {
		s.must(os.WriteFile(filepath.Join(s.group, "pids.max"), []byte(strconv.FormatUint(limit, 10)), 0))
		return limit
	}
	s.must(s.prlimit(pid, l.rlimit, limit, l.hard))
	return limit
}

// hardened returns the same lever for soft and hard limit.
func (l lever) hardened() lever {
	l.hard = true
	return l
}

// lift removes the limit. The process may have ended.
func (l lever) lift(s *site, pid int) {
	s.Helper()
	if l.rlimit < 0 {
		s.must(os.WriteFile(filepath.Join(s.group, "pids.max"), []byte("max"), 0))
		return
	}
	if err := s.prlimit(pid, l.rlimit, ^uint64(0), false); err != nil && !errors.Is(err, syscall.ESRCH) {
		s.Fatal(err)
	}
}

// prlimit sets the soft limit of a process, to the hard limit at most, and with hard both limits. Without CAP_SYS_RESOURCE only the user
// of the process may, so the thread becomes the same user, and ends.
func (s *site) prlimit(pid, resource int, soft uint64, hard bool) error {
	result := make(chan error)
	go func() {
		runtime.LockOSThread()
		if s.user != 0 {
			for _, call := range []uintptr{syscall.SYS_SETRESGID, syscall.SYS_SETRESUID} {
				if _, _, errno := syscall.RawSyscall(call, uintptr(s.user), uintptr(s.user), uintptr(s.user)); errno != 0 {
					result <- fmt.Errorf("becoming user %d: %w", s.user, errno)
					return
				}
			}
		}
		result <- prlimit(pid, resource, soft, hard)
	}()
	return <-result
}

func prlimit(pid, resource int, soft uint64, hard bool) error {
	var limit syscall.Rlimit
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), uintptr(resource), 0,
		uintptr(unsafe.Pointer(&limit)), 0, 0); errno != 0 {
		return fmt.Errorf("reading limit %d of process %d: %w", resource, pid, errno)
	}
	limit.Cur = min(soft, limit.Max)
	if hard {
		limit.Max = limit.Cur
	}
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), uintptr(resource),
		uintptr(unsafe.Pointer(&limit)), 0, 0, 0); errno != 0 {
		return fmt.Errorf("setting limit %d of process %d: %w", resource, pid, errno)
	}
	return nil
}

func groupCount(s *site, _, more int) uint64 {
	s.Helper()
	return uint64(int(s.number(filepath.Join(s.group, "pids.current"))) + more)
}

// userCount counts the threads of all processes of the process's user, as the kernel does for RLIMIT_NPROC.
func userCount(_ *site, pid, more int) uint64 {
	threads := more
	user := status(pid, "Uid")
	files, _ := filepath.Glob("/proc/[0-9]*")
	for _, file := range files {
		other, _ := strconv.Atoi(filepath.Base(file))
		if status(other, "Uid") == user {
			n, _ := strconv.Atoi(status(other, "Threads"))
			threads += n
		}
	}
	return uint64(threads)
}

// addressCount counts megabytes.
func addressCount(_ *site, pid, more int) uint64 {
	kilobytes, _ := strconv.ParseUint(status(pid, "VmSize"), 10, 64)
	return kilobytes<<10 + uint64(more)<<20
}

// descriptorCount leaves more numbers below the limit free. A descriptor may be open far above.
func descriptorCount(_ *site, pid, more int) uint64 {
	open := descriptorsOf(pid)
	for n := 0; ; n++ {
		if !slices.Contains(open, n) {
			if more == 0 {
				return uint64(n)
			}
			more--
		}
	}
}

// descriptorsOf returns the open descriptors of a process.
func descriptorsOf(pid int) (open []int) {
	names, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	for _, name := range names {
		n, _ := strconv.Atoi(name.Name())
		open = append(open, n)
	}
	return open
}

// status returns the first word of a line of /proc/PID/status.
func status(pid int, name string) string {
	text, _ := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	for line := range strings.Lines(string(text)) {
		if fields := strings.Fields(line); len(fields) > 1 && fields[0] == name+":" {
			return fields[1]
		}
	}
	return ""
}

// newGroup makes a control group of version 1 or 2 with a controller, and returns its folder. Without the
// right to, the test is skipped.
func newGroup(t *testing.T, controller, file string) string {
	t.Helper()
	group, err := makeGroup(controller, file)
	if err != nil {
		t.Skipf("SKIPPED: no control group with %s can be made here: %v", file, err)
	}
	t.Cleanup(func() {
		// The engine may end a moment after Asterisk.
		for deadline := time.Now().Add(patience / 6); os.Remove(group) != nil && time.Now().Before(deadline); {
			time.Sleep(20 * time.Millisecond)
		}
	})
	return group
}

// makeGroup makes a group below this process's own group, or below an ancestor. In version 2 a group has only
// the controllers enabled by its parent, and a group with processes enables none.
func makeGroup(controller, file string) (group string, err error) {
	base, top, err := ownGroup(controller)
	if err != nil {
		return "", err
	}
	for ; strings.HasPrefix(base, top); base = filepath.Dir(base) {
		if group, err = os.MkdirTemp(base, "res-kafka-test-"); err != nil {
			continue
		}
		if _, err = os.Stat(filepath.Join(group, file)); err == nil {
			return group, nil
		}
		_ = os.Remove(group)
	}
	return "", err
}

// ownGroup returns the folder of this process's group with a controller, version 1 or 2, and the top of the
// hierarchy.
func ownGroup(controller string) (base, top string, err error) {
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		return "", "", err
	}
	const mount = "/sys/fs/cgroup"
	for line := range strings.Lines(string(own)) {
		fields := strings.SplitN(strings.TrimSpace(line), ":", 3)
		switch {
		case len(fields) < 3:
		case fields[1] == controller:
			top = filepath.Join(mount, controller)
			return filepath.Join(top, fields[2]), top, nil
		case fields[0] == "0":
			base, top = filepath.Join(mount, fields[2]), mount
		}
	}
	if base == "" {
		return "", "", errors.New("this process is in no control group")
	}
	return base, top, nil
}
