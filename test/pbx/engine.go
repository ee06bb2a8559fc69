package pbx

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// EnginePID returns the process id of the engine of res_kafka, 0 for none.
func (p *PBX) EnginePID() int {
	children, _ := filepath.Glob("/proc/[0-9]*/cmdline")
	for _, file := range children {
		words, err := os.ReadFile(file)
		if err != nil || !bytes.HasSuffix(words, []byte("\x00engine\x00")) {
			continue
		}
		pid, _ := strconv.Atoi(filepath.Base(filepath.Dir(file)))
		if parentOf(pid) == p.PID() {
			return pid
		}
	}
	return 0
}

// Children returns the process ids of Asterisk's children, zombies included.
func (p *PBX) Children() (pids []int) {
	folders, _ := filepath.Glob("/proc/[0-9]*")
	for _, folder := range folders {
		if pid, _ := strconv.Atoi(filepath.Base(folder)); parentOf(pid) == p.PID() {
			pids = append(pids, pid)
		}
	}
	return pids
}

// parentOf returns the process id of a process's parent, 0 when the process has gone.
func parentOf(pid int) int {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0
	}
	// proc(5): the second field is the program's name in parentheses, which may contain blanks.
	fields := strings.Fields(string(text[bytes.LastIndexByte(text, ')')+1:]))
	if len(fields) < 2 {
		return 0
	}
	parent, _ := strconv.Atoi(fields[1])
	return parent
}
