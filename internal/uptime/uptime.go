// Package uptime is the clock that nobody can set: how long the machine has been running, and which of its runs this is.
package uptime

import (
	"crypto/rand"
	"encoding/binary"
	"encoding/hex"
	"os"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// clockBoottime is CLOCK_BOOTTIME of Linux, which goes on while the machine is suspended.
const clockBoottime = 7

// Now returns the time since the machine was started, including the time that it was suspended. Where the kernel does not know
// this clock, it is the time since the process was started.
func Now() time.Duration {
	var ts syscall.Timespec
	if _, _, failed := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0); failed != 0 {
		return time.Since(start)
	}
	return time.Duration(ts.Nano())
}

var start = time.Now()

// Boot returns a number that tells this run of the machine from all others: uptimes of different ones cannot be compared. It is
// not 0. Where the kernel does not say, each call returns another.
func Boot() uint64 {
	id := make([]byte, 8)
	text, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err == nil {
		digits := strings.ReplaceAll(string(text), "-", "")
		_, err = hex.Decode(id, []byte(digits[:min(len(digits), 2*len(id))]))
	}
	if err != nil {
		_, _ = rand.Read(id)
	}
	return binary.LittleEndian.Uint64(id) | 1
}
