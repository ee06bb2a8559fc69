package main

import (
	"bytes"
	"fmt"
	"os"
	"runtime"
	"runtime/debug"
	"strconv"
	"syscall"
	"unsafe"
)

// Settings of the engine's process. boundary/spawn.c sets others before the start.
const (
	// processors is the number of threads that run Go at the same time. docs/decisions/008 has the
	// measurement for 1, 2 and 4: two processors send nearly twice as much as one flat out, for 0.3 % of a
	// core at 300 records a second.
	processors = 2
	// niceness is added to Asterisk's: media threads come first when processors are short.
	niceness = 5
	// killScore is added to Asterisk's score, so a kernel without memory ends the engine and not the PBX.
	killScore = 500
	// addressRoom is added to the address space in use at the start and to the memory limit: for the
	// collector's ballast of 128 MB, partly used arenas of 64 MB, and mapped slabs.
	addressRoom = 512 << 20
)

// Numbers of Linux missing in package syscall.
const (
	prSetName       = 15
	prSetNoNewPrivs = 38
	prioProcess     = 0
	schedOther      = 0
	maxNice         = 19
	maxKillScore    = 1000
	capVersion      = 0x20080522 // _LINUX_CAPABILITY_VERSION_3
)

// setUpProcess limits the rights and resources of the process. memory is its limit, in bytes; 0 = unknown. No
// step is necessary: a failed step is returned for the log, and the next steps follow. The working directory
// stays Asterisk's, the base of relative paths in kafka.conf, as for a client in Asterisk's process.
func setUpProcess(memory int64) (faults []error) {
	for _, step := range []struct {
		name string
		do   func() error
	}{
		{"closing inherited descriptors", closeInherited},
		{"leaving Asterisk's session", newSession},
		{"naming the process", nameProcess},
		{"forbidding new privileges", func() error { return onAllThreads(syscall.SYS_PRCTL, prSetNoNewPrivs, 1, 0) }},
		{"giving up capabilities", dropCapabilities},
		{"leaving real-time scheduling", ordinaryScheduling},
		{"lowering the priority", lowerPriority},
		{"raising the kill score", raiseKillScore},
		{"forbidding core files", func() error { return syscall.Setrlimit(syscall.RLIMIT_CORE, &syscall.Rlimit{}) }},
		{"limiting the address space", func() error { return limitAddresses(memory) }},
	} {
		if err := step.do(); err != nil {
			faults = append(faults, fmt.Errorf("setting up the engine's process: %s: %w", step.name, err))
		}
	}
	syscall.Umask(0o077)
	debug.SetTraceback("all") // an uncaught panic writes every goroutine to standard error
	runtime.GOMAXPROCS(min(processors, runtime.GOMAXPROCS(0)))
	return faults
}

// onAllThreads makes a system call on every thread, because its effect is limited to the calling thread;
// later threads inherit the effect.
func onAllThreads(trap, a1, a2, a3 uintptr) error {
	if _, _, errno := syscall.AllThreadsSyscall6(trap, a1, a2, a3, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

// keptCapabilities are the capabilities for files of other users, for keys or a spool of an Asterisk that
// runs as root: CAP_DAC_OVERRIDE, CAP_DAC_READ_SEARCH and CAP_FOWNER.
const keptCapabilities = 1<<1 | 1<<2 | 1<<3

// dropCapabilities gives up the other rights of root on every thread, for example to trace other processes, to load kernel
// modules, to mount, and to use a disk's reserved blocks.
func dropCapabilities() error {
	header := struct {
		version uint32
		pid     int32
	}{version: capVersion}
	var data [2]struct{ effective, permitted, inheritable uint32 }
	if _, _, errno := syscall.Syscall(syscall.SYS_CAPGET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0); errno != 0 {
		return errno
	}
	kept := data[0].permitted & keptCapabilities
	if data[0].permitted == kept && data[0].inheritable == 0 && data[1].permitted == 0 && data[1].inheritable == 0 {
		return nil // no call that a unit with SystemCallFilter=~@privileged would answer with SIGSYS
	}
	data[0].effective, data[0].permitted, data[0].inheritable = kept, kept, 0
	data[1].effective, data[1].permitted, data[1].inheritable = 0, 0, 0
	return onAllThreads(syscall.SYS_CAPSET, uintptr(unsafe.Pointer(&header)), uintptr(unsafe.Pointer(&data)), 0)
}

// closeInherited closes descriptors not from the module. Go's own descriptors are close-on-exec, so none of
// them was inherited.
func closeInherited() error {
	folder, err := os.Open("/proc/self/fd")
	if err != nil {
		return err
	}
	names, err := folder.Readdirnames(-1)
	_ = folder.Close()
	for _, name := range names {
		fd, _ := strconv.Atoi(name)
		flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
		if fd >= inheritedFD && errno == 0 && flags&syscall.FD_CLOEXEC == 0 {
			_ = syscall.Close(fd)
		}
	}
	return err
}

// nameProcess sets the name in ps and top, on every thread. Otherwise the name is "7": the module starts the
// engine from this descriptor.
func nameProcess() error {
	name, _ := syscall.BytePtrFromString("reskafka")
	return onAllThreads(syscall.SYS_PRCTL, prSetName, uintptr(unsafe.Pointer(name)), 0)
}

// newSession keeps a Ctrl-C at Asterisk's console from the engine, if the module has not done so.
func newSession() error {
	if _, err := syscall.Setsid(); err != nil && err != syscall.EPERM { // the process already leads a session or a group
		return err
	}
	return nil
}

// ordinaryScheduling leaves the real-time class inherited from `asterisk -p`.
func ordinaryScheduling() error {
	policy, _, errno := syscall.Syscall(syscall.SYS_SCHED_GETSCHEDULER, 0, 0, 0)
	if errno != 0 || policy == schedOther {
		return nil
	}
	var priority int32
	return onAllThreads(syscall.SYS_SCHED_SETSCHEDULER, 0, schedOther, uintptr(unsafe.Pointer(&priority)))
}

func lowerPriority() error {
	raw, _, errno := syscall.Syscall(syscall.SYS_GETPRIORITY, prioProcess, 0, 0)
	if errno != 0 {
		return errno
	}
	nice := min(20-int(raw)+niceness, maxNice) // the kernel returns 20 - nice
	return onAllThreads(syscall.SYS_SETPRIORITY, prioProcess, 0, uintptr(nice))
}

func raiseKillScore() error {
	const file = "/proc/self/oom_score_adj"
	text, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	score, err := strconv.Atoi(string(bytes.TrimSpace(text)))
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(strconv.Itoa(min(score+killScore, maxKillScore))), 0)
}

// limitAddresses sets the last limit of memory: the collector's limit is lower, and a kill by the kernel
// would take other processes along.
func limitAddresses(memory int64) error {
	if memory == 0 {
		return nil
	}
	text, err := os.ReadFile("/proc/self/statm")
	if err != nil {
		return err
	}
	var pages int64
	if _, err := fmt.Sscan(string(text), &pages); err != nil {
		return err
	}
	var limit syscall.Rlimit
	if err := syscall.Getrlimit(syscall.RLIMIT_AS, &limit); err != nil {
		return err
	}
	limit.Max = min(limit.Max, uint64(pages*int64(os.Getpagesize())+memory+addressRoom))
	limit.Cur = min(limit.Cur, limit.Max)
	return syscall.Setrlimit(syscall.RLIMIT_AS, &limit)
}
