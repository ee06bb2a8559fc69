package frame

import (
	"errors"
	"runtime"
	"runtime/debug"
)

// ErrGone is the error for memory of a file that another process truncated.
var ErrGone = errors.New("its file was truncated")

// Faults calls do and reports whether do touched memory that is gone: the mapped file was truncated. do ends at
// such an access, and its deferred calls run. Other panics pass through. Faults counts for the calling
// goroutine only.
func Faults(do func()) (faulted bool) {
	defer debug.SetPanicOnFault(debug.SetPanicOnFault(true))
	defer func() {
		switch err := recover().(type) {
		case nil:
		case interface { // the documented form of such an error
			runtime.Error
			Addr() uintptr
		}:
			faulted = true
		default:
			panic(err)
		}
	}()
	do()
	return false
}
