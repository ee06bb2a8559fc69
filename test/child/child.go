// Package child starts processes that do not outlive a test.
package child

import (
	"os/exec"
	"runtime"
)

// Start starts a process. ended is called, from another goroutine, with what its Wait returns. It does not block.
//
// With SysProcAttr.Pdeathsig the process gets that signal when the thread that forked it ends, whatever becomes of the others: so
// that thread is kept for as long as the process lives.
func Start(cmd *exec.Cmd, ended func(error)) error {
	started := make(chan error)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		started <- err
		if err == nil {
			ended(cmd.Wait())
		}
	}()
	return <-started
}
