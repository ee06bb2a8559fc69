package limits

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// TestRealTime_OneProcessor_MediaFirst guards media threads under `asterisk -p` (highpriority) on one
// processor: no thread and no process of ours may run above SCHED_OTHER. How late a media thread wakes
// without the module, with it, and under a flood of records is printed. It is no condition, because other
// programs of the machine have a part in it.
func TestRealTime_OneProcessor_MediaFirst(t *testing.T) {
	t.Parallel()
	seconds := 2 * time.Second
	if long() {
		seconds = 30 * time.Second
	}
	s := newSite(t, setup{options: map[string]string{"highpriority": "yes"}})
	if policy(s.pbx.PID()) == schedOther {
		t.Skip("SKIPPED: this machine gives no real-time scheduling: Asterisk ignores highpriority")
	}
	s.pin()
	s.cli("media start")
	without := s.lateness(seconds)
	own := tasks(s.pbx.PID())
	for _, module := range ourModules {
		s.cli("module load %s.so", module)
	}
	engine := s.engine()
	s.expect(`ensure 0`, "kafka probe ensure producing %s 4 1 wait", topic)
	s.expect(`check 0`, "kafka flood check consuming %s 8 1000000 16", topic)
	s.until(`Message sent successfully`, "kafka test send connection producing topic other message x")
	var ours int
	for _, task := range tasks(s.pbx.PID()) {
		if slices.Contains(own, task) {
			continue
		}
		ours++
		if p := policy(task); p != schedOther {
			name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", task))
			t.Errorf("thread %d of the module (%.15s) has scheduling policy %d", task, name, p)
		}
	}
	if ours < 3 { // supervisor, pump, callbacks
		t.Errorf("the module has %d threads", ours)
	}
	quiet := s.lateness(seconds)
	s.expect(`start 0`, "kafka flood start producing %s 8 1000000 16 4000 1000000", topic)
	flooded := s.lateness(seconds)
	for _, task := range tasks(engine) {
		if p := policy(task); p != schedOther {
			t.Errorf("thread %d of the engine has scheduling policy %d", task, p)
		}
	}
	s.cli("kafka flood stop")
	result := fmt.Sprintf("without the module %s; with it %s; with 4000 records/s %s", without, quiet, flooded)
	t.Logf("note: media thread, asterisk -p, one processor: %s", result)
	line(t, "media thread, asterisk -p, one processor", result)
}

const schedOther = 0

// policy returns the scheduling policy of a thread, -1 when it has ended.
func policy(task int) int {
	p, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_GETSCHEDULER, uintptr(task), 0, 0)
	if errno != 0 {
		return -1
	}
	return int(p)
}

// tasks returns the threads of a process.
func tasks(pid int) (all []int) {
	folders, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
	for _, folder := range folders {
		task, _ := strconv.Atoi(filepath.Base(folder))
		all = append(all, task)
	}
	return all
}

// pin leaves every thread of Asterisk, and all that these start, one processor.
func (s *site) pin() {
	s.Helper()
	mask := [16]uint64{1}
	for _, task := range tasks(s.pbx.PID()) {
		if _, _, errno := syscall.RawSyscall(syscall.SYS_SCHED_SETAFFINITY, uintptr(task), unsafe.Sizeof(mask),
			uintptr(unsafe.Pointer(&mask))); errno != 0 {
			s.Skipf("SKIPPED: threads cannot be bound to one processor: %v", errno)
		}
	}
}

var lateness = regexp.MustCompile(`p50 (\d+) us p99 (\d+) us worst (\d+) us policy (\d+)`)

// lateness measures how late the media thread wakes.
func (s *site) lateness(during time.Duration) string {
	s.Helper()
	s.cli("media show")
	time.Sleep(during)
	m := s.expect(lateness.String(), "media show")
	if m[4] == strconv.Itoa(schedOther) {
		s.Errorf("the media thread itself is not real-time: %s", m[0])
	}
	return fmt.Sprintf("p50 %s us, p99 %s us, worst %s us", m[1], m[2], m[3])
}
