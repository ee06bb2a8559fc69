// Package confine runs a program like a container or a hardened service: with mounts of its own, another
// user, fewer rights and fewer system calls. The process makes its settings and then executes the program, so
// its process id stays.
//
// A test program calls Main at its start and puts Command before the command line to confine. Mounts need
// root, and namespaces made by the starter (CLONE_NEWNS).
package confine

import (
	"encoding/json"
	"fmt"
	"os"
	"runtime"
	"syscall"
	"unsafe"
)

// Spec lists the settings of the process, applied in the order of the fields.
type Spec struct {
	Mounts []Mount // need a mount namespace

	NoNewPrivileges  bool  // as systemd's NoNewPrivileges=
	NoBoundingSet    bool  // later programs get no capability: CapabilityBoundingSet=
	User             int   // the user and group to become; 0 = none. All capabilities go with root
	DenyWriteExecute bool  // no memory is writable and executable: MemoryDenyWriteExecute=. Linux 6.3
	Families         []int // the address families of socket(): RestrictAddressFamilies=. nil = all
	Denied           []int // numbers of system calls refused with EPERM: SystemCallFilter= with SystemCallErrorNumber=EPERM
	Killed           []int // numbers of fatal system calls: SystemCallFilter= without SystemCallErrorNumber=
}

// verb is the argument by which Main recognizes a process to confine.
const verb = "confined-process"

// Command returns the words to put before a command line to confine. The present program has to call Main.
func Command(spec Spec) ([]string, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	text, err := json.Marshal(spec)
	return []string{self, verb, string(text)}, err
}

// Main confines a process started by Command and executes its command line. In other processes Main returns
// at once.
func Main() {
	const before = 3 // program, verb, Spec
	if len(os.Args) <= before || os.Args[1] != verb {
		return
	}
	runtime.LockOSThread() // the executed program inherits the settings of this thread
	var spec Spec
	err := json.Unmarshal([]byte(os.Args[2]), &spec)
	if err == nil {
		err = spec.apply()
	}
	if err == nil {
		err = syscall.Exec(os.Args[before], os.Args[before:], os.Environ())
	}
	fmt.Fprintln(os.Stderr, "confining the process:", err)
	os.Exit(1)
}

// Numbers of Linux missing in package syscall.
const (
	prSetNoNewPrivs = 38
	prCapbsetDrop   = 24
	prSetMDWE       = 65
	mdweRefuseGain  = 1
	maxCapability   = 63
)

func prctl(option, argument uintptr) error {
	if _, _, errno := syscall.RawSyscall6(syscall.SYS_PRCTL, option, argument, 0, 0, 0, 0); errno != 0 {
		return errno
	}
	return nil
}

func (s *Spec) apply() error {
	for _, step := range []struct {
		name string
		on   bool
		do   func() error
	}{
		{"mounts", len(s.Mounts) > 0, s.mount},
		{"bounding set", s.NoBoundingSet, emptyBoundingSet},
		{"user", s.User != 0, s.become},
		{"no new privileges", s.NoNewPrivileges, func() error { return prctl(prSetNoNewPrivs, 1) }},
		{"write or execute", s.DenyWriteExecute, func() error { return prctl(prSetMDWE, mdweRefuseGain) }},
		{"filter", s.Families != nil || len(s.Denied)+len(s.Killed) > 0, s.filter},
	} {
		if !step.on {
			continue
		}
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.name, err)
		}
	}
	return nil
}

func emptyBoundingSet() error {
	for capability := range uintptr(maxCapability + 1) {
		if err := prctl(prCapbsetDrop, capability); err != nil && err != syscall.EINVAL { // a number unknown to the kernel
			return err
		}
	}
	return nil
}

// become changes the ids of this thread only: this thread executes the program.
func (s *Spec) become() error {
	id := uintptr(s.User)
	for _, call := range [][4]uintptr{
		{syscall.SYS_SETGROUPS, 0, 0, 0},
		{syscall.SYS_SETRESGID, id, id, id},
		{syscall.SYS_SETRESUID, id, id, id},
	} {
		if _, _, errno := syscall.RawSyscall(call[0], call[1], call[2], call[3]); errno != 0 {
			return errno
		}
	}
	return nil
}

// sockFilter and sockFprog are struct sock_filter and struct sock_fprog of linux/filter.h.
type sockFilter struct {
	code   uint16
	jt, jf uint8
	k      uint32
}

type sockFprog struct {
	length  uint16
	filters *sockFilter
}

// Instructions and results of linux/bpf_common.h and linux/seccomp.h.
const (
	loadWord    = 0x20 // BPF_LD | BPF_W | BPF_ABS
	jumpIfEqual = 0x15 // BPF_JMP | BPF_JEQ | BPF_K
	returnValue = 0x06 // BPF_RET | BPF_K

	offsetNumber   = 0  // struct seccomp_data.nr
	offsetArgument = 16 // .args[0], the lower half

	resultAllow = 0x7fff0000
	resultErrno = 0x00050000
	resultKill  = 0x80000000

	seccompSetFilter = 1
)

// filter has the kernel refuse system calls of this process and all children.
func (s *Spec) filter() error {
	program := []sockFilter{{code: loadWord, k: offsetNumber}}
	refuse := func(number int, result uint32) {
		program = append(program, sockFilter{code: jumpIfEqual, jf: 1, k: uint32(number)}, sockFilter{code: returnValue, k: result})
	}
	for _, number := range s.Denied {
		refuse(number, resultErrno|uint32(syscall.EPERM))
	}
	for _, number := range s.Killed {
		refuse(number, resultKill)
	}
	if s.Families != nil {
		// The filter checks the first argument of socket() further; all other calls are allowed.
		program = append(program, sockFilter{code: jumpIfEqual, jt: 1, k: syscall.SYS_SOCKET}, sockFilter{code: returnValue, k: resultAllow},
			sockFilter{code: loadWord, k: offsetArgument})
		for _, family := range s.Families {
			program = append(program, sockFilter{code: jumpIfEqual, jf: 1, k: uint32(family)}, sockFilter{code: returnValue, k: resultAllow})
		}
		program = append(program, sockFilter{code: returnValue, k: resultErrno | uint32(syscall.EAFNOSUPPORT)})
	}
	program = append(program, sockFilter{code: returnValue, k: resultAllow})
	list := sockFprog{length: uint16(len(program)), filters: &program[0]}
	if _, _, errno := syscall.RawSyscall(sysSeccomp, seccompSetFilter, 0, uintptr(unsafe.Pointer(&list))); errno != 0 {
		return errno
	}
	runtime.KeepAlive(program)
	return nil
}
