// Package uptime is a clock out of users' reach: the running time of the machine, and the identity of the
// boot.
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

// clockBoottime is CLOCK_BOOTTIME of Linux, which runs during a suspend.
const clockBoottime = 7

// Now returns the time since the machine's start, including suspends. On a kernel without this clock, it
// returns the time since the process's start.
func Now() time.Duration {
	var ts syscall.Timespec
	if _, _, failed := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0); failed != 0 {
		return time.Since(start)
	}
	return time.Duration(ts.Nano())
}

var start = time.Now()

// Boot returns a number for this boot of the machine: uptimes of different boots are not comparable. The
// number is not 0. Without information from the kernel, each call returns another number.
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
