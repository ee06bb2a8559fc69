package limits

import (
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// TestLimitsBeforeLoad guards two promises, however few threads, descriptors and addresses are left: `module
// load` works or declines with a sentence, and Asterisk's state afterwards equals the state before.
func TestLimitsBeforeLoad(t *testing.T) {
	t.Parallel()
	each(t, beforeRows, func(t *testing.T, r row) {
		s := newSite(t, r.setup(t))
		s.cli("media start")
		s.cli("channel originate Local/s@standing application Echo")
		s.until(`(?m)^Local/s@standing`, "core show channels concise")
		// One-time set-up of Asterisk and the loader stays.
		s.cli("module load res_kafka.so")
		s.engine()
		s.cli("module unload res_kafka.so")
		outcomes := newTally(r.name)
		for _, more := range r.values() {
			outcomes.add(s.load(r, more), more)
		}
		outcomes.report(t)
		s.expect(`(?m)^Local/s@standing`, "core show channels concise")
	})
}

// footprint lists permitted leftovers of a module.
type footprint struct {
	threads     []string
	descriptors []string
	children    int
}

func (s *site) footprint() (f footprint) {
	pid := s.pbx.PID()
	tasks, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/comm", pid))
	for _, task := range tasks {
		name, _ := os.ReadFile(task)
		f.threads = append(f.threads, strings.TrimSpace(string(name)))
	}
	for _, n := range descriptorsOf(pid) {
		to, _ := os.Readlink(fmt.Sprintf("/proc/%d/fd/%d", pid, n))
		if strings.HasSuffix(to, "-journal") {
			continue // of Asterisk's database, for a moment
		}
		f.descriptors = append(f.descriptors, fmt.Sprintf("%d %s", n, regexp.MustCompile(`\d+`).ReplaceAllString(to, "N")))
	}
	slices.Sort(f.threads)
	slices.Sort(f.descriptors)
	if s.pbx.EnginePID() != 0 {
		f.children = 1
	}
	return f
}

// beyond returns the new part of a footprint. Asterisk's thread pools may shrink.
func (f footprint) beyond(before footprint) string {
	var more []string
	if len(f.threads) > len(before.threads) {
		more = append(more, fmt.Sprintf("%d threads instead of %d: %v", len(f.threads), len(before.threads), f.threads))
	}
	for _, name := range f.descriptors {
		if !slices.Contains(before.descriptors, name) {
			more = append(more, "descriptor "+name)
		}
	}
	if f.children > before.children {
		more = append(more, "the engine")
	}
	return strings.Join(more, ", ")
}

// load loads the module under the limit, and returns the outcome.
func (s *site) load(r row, more int) string {
	s.Helper()
	before, mark, pid := s.footprint(), s.lines(), s.pbx.PID()
	limit := r.lever.set(s, pid, more)
	s.cli("module load res_kafka.so")
	s.must(s.pbx.Crashed())
	loaded := !strings.Contains(s.cli("kafka show status"), "No such command")
	r.lever.lift(s, pid)
	outcome := "loaded"
	if loaded {
		s.engine()
		s.until(`Message sent successfully`, "kafka test send connection producing topic t message x")
		s.cli("module unload res_kafka.so")
	} else {
		outcome = s.declined(r, mark, more, limit)
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		left := s.footprint().beyond(before)
		if left == "" {
			break
		}
		if time.Now().After(deadline) {
			s.Errorf("+%d (%s) left behind: %s", more, outcome, left)
			break
		}
	}
	s.expect(`completed 1`, "call probe s@calls 1")
	return outcome
}

// loader matches the sentences of Asterisk and its loader when even the module's file cannot be loaded.
var loader = regexp.MustCompile(`Error loading module.*|Memory Allocation Failure|[Cc]annot allocate memory`)

// oneSentence checks that the module logged exactly one error and no further line about a limit.
func (s *site) oneSentence(lines []string, more int) {
	s.Helper()
	var errors []string
	for _, l := range lines {
		if ours.MatchString(l) && !strings.Contains(l, "loader.c") {
			errors = append(errors, l)
		}
	}
	if len(errors) != 1 {
		s.Errorf("+%d: %d lines instead of one sentence:\n%s", more, len(errors), strings.Join(errors, "\n"))
	}
}

// declined checks the reason in the log, and returns the module or loader that logged the reason.
func (s *site) declined(r row, mark, more int, limit uint64) string {
	s.Helper()
	var lines []string
	for deadline := time.Now().Add(patience / 6); time.Now().Before(deadline); time.Sleep(20 * time.Millisecond) { // Asterisk's log comes late
		lines = s.since(mark)
		for _, l := range lines {
			if r.explains(l, []uint64{limit}) {
				s.Logf("+%d: %s", more, l)
				s.oneSentence(lines, more)
				return "declined"
			}
		}
		for _, l := range lines {
			if loader.MatchString(l) {
				return "not loaded by Asterisk"
			}
		}
	}
	s.Errorf("+%d: no line names %s, its value %d and the remedy:\n%s", more, r.lever.name, limit, strings.Join(lines, "\n"))
	return "declined without a reason"
}
