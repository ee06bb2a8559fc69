package limits

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// TestRealTime_OneProcessor_MediaFirst guards media threads under `asterisk -p` (highpriority) on one
// processor: no thread and no process of ours may run above SCHED_OTHER. The test prints the wake-up delay of
// a media thread without the module, with the module, and under a flood of records. The delay is no
// condition, because other programs of the machine contribute.
func TestRealTime_OneProcessor_MediaFirst(t *testing.T) {
	t.Parallel()
	rounds, during := 1, 2*time.Second
	if long() {
		rounds, during = 5, 6*time.Second
	}
	s := newSite(t, setup{options: map[string]string{"highpriority": "yes"}})
	if policy(s.pbx.PID()) == schedOther {
		t.Skip("SKIPPED: this machine gives no real-time scheduling: Asterisk ignores highpriority")
	}
	s.pin()
	s.cli("media start")
	var without, quiet, flooded []late
	for range rounds { // in turn, because other programs come and go
		without = append(without, s.lateness(during))
		s.loadOrdinary()
		quiet = append(quiet, s.lateness(during))
		s.expect(`start 0`, "kafka flood start producing %s 8 1000000 16 4000 1000000", topic)
		flooded = append(flooded, s.lateness(during))
		for _, task := range tasks(s.engine()) {
			if p := policy(task); p > schedOther {
				t.Errorf("thread %d of the engine has scheduling policy %d", task, p)
			}
		}
		s.cli("kafka flood end")
		for _, module := range []string{"kafka_probe", "cdr_kafka", "res_kafka"} {
			s.cli("module unload %s.so", module)
		}
	}
	result := fmt.Sprintf("without the module %v; with it %v; with 4000 records/s %v", median(without), median(quiet), median(flooded))
	t.Logf("note: media thread, asterisk -p, one processor: %s", result)
	line(t, "media thread, asterisk -p, one processor", result)
}

// loadOrdinary loads and uses the modules, and checks their threads for ordinary scheduling.
func (s *site) loadOrdinary() {
	s.Helper()
	before := tasks(s.pbx.PID())
	for _, module := range ourModules {
		s.cli("module load %s.so", module)
	}
	s.engine()
	s.expect(`ensure 0`, "kafka probe ensure producing %s 4 1 wait", topic)
	s.expect(`check 0`, "kafka flood check consuming %s 8 1000000 16", topic)
	s.until(`Message sent successfully`, "kafka test send connection producing topic other message x")
	var ours []string
	for _, task := range tasks(s.pbx.PID()) {
		name, _ := os.ReadFile(fmt.Sprintf("/proc/%d/comm", task))
		if slices.Contains(before, task) || !strings.HasPrefix(string(name), "kafka-") {
			continue // a thread of Asterisk
		}
		ours = append(ours, strings.TrimSpace(string(name)))
		if p := policy(task); p > schedOther {
			s.Errorf("thread %d of the module, %.15s, has scheduling policy %d", task, name, p)
		}
	}
	slices.Sort(ours)
	if got := strings.Join(ours, " "); got != "kafka-callback kafka-engine kafka-pump" {
		s.Errorf("the module has the threads %q", got)
	}
}

const schedOther = 0

// policy returns the scheduling policy of a thread, or -1 for an ended thread.
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

// pin restricts every thread of Asterisk, and all their later threads, to one processor.
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

// late is how late the media thread woke, in microseconds.
type late struct{ p50, p99, worst int }

func (l late) String() string {
	return fmt.Sprintf("p50 %d us, p99 %d us, worst %d us", l.p50, l.p99, l.worst)
}

// median returns the round with the median p99.
func median(rounds []late) late {
	slices.SortFunc(rounds, func(a, b late) int { return a.p99 - b.p99 })
	return rounds[len(rounds)/2]
}

// lateness measures how late the media thread wakes.
func (s *site) lateness(during time.Duration) (l late) {
	s.Helper()
	s.cli("media show")
	time.Sleep(during)
	m := s.expect(lateness.String(), "media show")
	if m[4] == strconv.Itoa(schedOther) {
		s.Errorf("the media thread itself is not real-time: %s", m[0])
	}
	for i, n := range []*int{&l.p50, &l.p99, &l.worst} {
		*n, _ = strconv.Atoi(m[i+1])
	}
	return l
}
