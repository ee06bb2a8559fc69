//go:build !race

package kafka

import (
	"syscall"
	"unsafe"
)

// quickCall makes the system call, read or write, without announcing it.
func quickCall(call, fd uintptr, b []byte) (int, syscall.Errno) {
	n, _, errno := syscall.RawSyscall(call, fd, uintptr(unsafe.Pointer(unsafe.SliceData(b))), uintptr(len(b)))
	return int(n), errno
}
