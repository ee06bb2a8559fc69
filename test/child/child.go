// Package child starts processes and ends them with the test.
package child

import (
	"os/exec"
	"runtime"
)

// Start starts a process. ended is called from another goroutine with the result of Wait. Start does not
// block.
//
// With SysProcAttr.Pdeathsig the process gets the signal at the end of the forking thread, even if the
// process of the test lives on. The thread is therefore kept until the end of the process.
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
