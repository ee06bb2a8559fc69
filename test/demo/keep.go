package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
)

// keptFile describes the processes left by KEEP=1, from the top of the checkout.
const keptFile = "build/demo.json"

// kept describes the processes left running.
type kept struct {
	Dir         string
	BrokerPID   int
	AsteriskPID int
}

func readKept() (kept, error) {
	var k kept
	data, err := os.ReadFile(keptFile)
	if err != nil {
		return k, err
	}
	if err := json.Unmarshal(data, &k); err != nil {
		return k, fmt.Errorf("reading %s: %w", keptFile, err)
	}
	return k, nil
}

// leaveRunning records the running processes and prints commands to look around.
func (d *demo) leaveRunning() error {
	data, err := json.Marshal(kept{Dir: d.dir, BrokerPID: d.broker.PID(), AsteriskPID: d.private.PID()})
	if err != nil {
		return err
	}
	if err := os.WriteFile(keptFile, data, 0o600); err != nil {
		return fmt.Errorf("writing down what runs: %w", err)
	}
	cli := filepath.Join(d.private.Dir(), "cli")
	d.say("Asterisk and the broker are left running. To look around:")
	fmt.Printf(`
  its console        %[1]s
  one command of it  %[1]s kafka show status
  another call       %[1]s channel originate Local/s@demo application Echo
  its log            tail -f %[2]s/log/full.log
  its configuration  %[2]s/etc, then: %[1]s module reload res_kafka.so
  records            %[2]s/kcat -b %[3]s -C -t %[4]s -f '%%k %%s\n'
  the end of it      make demo-stop
`, cli, d.private.Dir(), d.broker.Address, cdrTopic)
	return nil
}

// stopKept ends the processes left by KEEP=1 and removes their directory.
func stopKept() error {
	k, err := readKept()
	if errors.Is(err, fs.ErrNotExist) {
		fmt.Println("No demo is running.")
		return nil
	}
	if err != nil {
		return err
	}
	if belongs(k.AsteriskPID, k.Dir) {
		fmt.Printf("Ending Asterisk, process %d\n", k.AsteriskPID)
		// The connection may break before the answer; the end is checked below.
		_ = exec.Command(filepath.Join(k.Dir, "asterisk", "cli"), "core", "stop", "now").Run()
	}
	if belongs(k.BrokerPID, k.Dir) {
		fmt.Printf("Ending the broker, process %d\n", k.BrokerPID)
		_ = syscall.Kill(k.BrokerPID, syscall.SIGTERM)
	}
	for _, pid := range []int{k.AsteriskPID, k.BrokerPID} {
		if err := awaitEnd(pid, k.Dir); err != nil {
			return err
		}
	}
	return errors.Join(os.RemoveAll(k.Dir), os.Remove(keptFile))
}

// belongs reports whether a process has the directory on its command line, because process ids are reused.
func belongs(pid int, dir string) bool {
	line, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/cmdline")
	return err == nil && dir != "" && strings.Contains(string(line), dir)
}

const (
	// sysPidfdOpen is the number of pidfd_open(2), the same on every architecture, and missing in package
	// syscall.
	sysPidfdOpen = 434
	// endSeconds is a process's time for an orderly end before a kill.
	endSeconds = 30
)

// awaitEnd waits for the end of a process that is not our child, and kills the process after the limit.
func awaitEnd(pid int, dir string) error {
	fd, _, errno := syscall.Syscall(sysPidfdOpen, uintptr(pid), 0, 0)
	if errno == syscall.ESRCH {
		return nil
	}
	if errno != 0 {
		return fmt.Errorf("waiting for process %d: %w", pid, errno)
	}
	defer syscall.Close(int(fd))
	if !belongs(pid, dir) {
		return nil
	}
	for range 2 {
		var readable syscall.FdSet
		readable.Bits[int(fd)/intBits] |= 1 << (int(fd) % intBits)
		n, err := syscall.Select(int(fd)+1, &readable, nil, nil, &syscall.Timeval{Sec: endSeconds})
		if err != nil {
			return fmt.Errorf("waiting for process %d: %w", pid, err)
		}
		if n > 0 {
			return nil
		}
		fmt.Printf("Process %d does not end; killing it\n", pid)
		_ = syscall.Kill(pid, syscall.SIGKILL)
	}
	return fmt.Errorf("process %d does not end", pid)
}

// intBits is how many bits each word of an FdSet has.
const intBits = strconv.IntSize
