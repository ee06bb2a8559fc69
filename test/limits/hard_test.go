package limits

import (
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"reskafka/test/pbx"
)

// few and fewMegabytes are values of rows with an Asterisk for each value.
var (
	few          = []int{0, 1, 2, 3, 4, 6, 8, 10, 12, 16, 20}
	fewMegabytes = []int{0, 16, 64, 128, 400, 900, 1300, 2000}
)

// hardRows are hard limits of running processes. No process can raise them again.
var hardRows = []row{
	{"hard RLIMIT_NPROC, engine killed", userThreads.hardened(), both, killed, few, []int{4}},
	{"hard RLIMIT_NOFILE of Asterisk, engine killed", descriptors.hardened(), asterisk, killed, few, nil},
	{"hard RLIMIT_NOFILE of the engine, flood", descriptors.hardened(), engine, flood, few, nil},
	{"hard RLIMIT_AS of Asterisk, engine killed", addresses.hardened(), asterisk, killed, fewMegabytes, []int{0}},
	{"hard RLIMIT_AS of the engine, flood", addresses.hardened(), engine, flood, fewMegabytes, nil},
}

// hardLoadRows are hard limits under which the module is loaded.
var hardLoadRows = []row{
	{"hard RLIMIT_NPROC, module load", userThreads.hardened(), asterisk, quiet, few, nil},
	{"hard RLIMIT_NOFILE, module load", descriptors.hardened(), asterisk, quiet, few, []int{4}},
	{"hard RLIMIT_AS, module load", addresses.hardened(), asterisk, quiet, fewMegabytes, []int{16}},
}

// TestHardLimits guards the promise of TestLimitsAfterLoad under a limit without an end. Asterisk lives. The engine
// continues or is started again, and all records arrive; or the engine waits, and the log names the limit.
func TestHardLimits(t *testing.T) {
	t.Parallel()
	each(t, hardRows, func(t *testing.T, r row) {
		outcomes := newTally(r.name)
		for _, more := range r.values() {
			t.Run(fmt.Sprintf("+%d", more), func(t *testing.T) {
				o := r.setup(t)
				o.load = ourModules
				s := newSite(t, o)
				s.engine()
				s.begin(r.load)
				outcomes.add(s.press(r, more), more)
				s.must(s.pbx.Stop(pbx.Terminate)) // a command would need a descriptor and a thread
			})
		}
		outcomes.report(t)
	})
}

// press sets the limit for good and returns the engine's fate.
func (s *site) press(r row, more int) string {
	s.Helper()
	before, mark, ticks := s.engine(), s.lines(), s.ticks()
	var limits []uint64
	for _, pid := range r.pids(s.pbx.PID(), before) {
		limits = append(limits, r.lever.set(s, pid, more))
	}
	time.Sleep(acting)
	if r.load == killed {
		s.must(syscall.Kill(before, syscall.SIGKILL))
	}
	time.Sleep(holds)
	s.must(s.pbx.Crashed())
	s.wait("the media thread goes on", func() bool { return s.ticks() > ticks })
	s.expect(`(?m)^Local/s@standing`, "core show channels concise")
	if r.on == engine {
		s.expect(`completed 2`, "call probe s@calls 2")
	}
	s.cli("kafka flood stop")
	now, serves := s.serving()
	outcome := s.judge(r, mark, more, limits, now == before)
	if serves && r.on == engine && now == before { // records may wait for a descriptor; the next engine has no limit
		s.must(syscall.Kill(now, syscall.SIGKILL))
		s.wait("another engine", func() bool { return s.pbx.EnginePID() != now })
		_, serves = s.serving()
	}
	if serves {
		s.allCome()
	} else if outcome != "engine waited" {
		s.Errorf("+%d: no engine serves, and no line says so:\n%s", more, strings.Join(s.since(mark), "\n"))
	}
	s.Logf("+%d: %s", more, outcome)
	return outcome
}

// serving waits a while for an engine that serves.
func (s *site) serving() (pid int, serves bool) {
	s.Helper()
	for deadline := time.Now().Add(patience / 20); time.Now().Before(deadline); time.Sleep(50 * time.Millisecond) {
		pid = s.pbx.EnginePID()
		if pid != 0 && strings.Contains(s.cli("kafka show status"), fmt.Sprintf("Process id:      %d\n", pid)) {
			return pid, true
		}
	}
	return pid, false
}

// TestHardLimits_ModuleLoad guards the promise of TestLimitsBeforeLoad under a limit without an end.
func TestHardLimits_ModuleLoad(t *testing.T) {
	t.Parallel()
	each(t, hardLoadRows, func(t *testing.T, r row) {
		outcomes := newTally(r.name)
		for _, more := range r.values() {
			t.Run(fmt.Sprintf("+%d", more), func(t *testing.T) {
				s := newSite(t, r.setup(t))
				s.cli("media start")
				s.cli("channel originate Local/s@standing application Echo")
				s.until(`(?m)^Local/s@standing`, "core show channels concise")
				outcomes.add(s.loadForGood(r, more), more)
				s.must(s.pbx.Stop(pbx.Terminate))
			})
		}
		outcomes.report(t)
	})
}

// loadForGood loads the module under a limit without an end.
func (s *site) loadForGood(r row, more int) string {
	s.Helper()
	s.wait("the media thread has its descriptor", func() bool { return s.ticks() > 0 })
	mark, ticks := s.lines(), s.ticks()
	limit := r.lever.set(s, s.pbx.PID(), more)
	s.cli("module load res_kafka.so")
	s.must(s.pbx.Crashed())
	outcome := "loaded"
	if strings.Contains(s.cli("kafka show status"), "No such command") {
		outcome = s.declined(r, mark, more, limit)
	} else if _, serves := s.serving(); !serves {
		outcome = "loaded, engine waits"
		explained := false
		for _, l := range s.since(mark) {
			explained = explained || r.explains(l, []uint64{limit})
		}
		if !explained {
			s.Errorf("+%d: no engine serves, and no line names %s, its value %d and the remedy:\n%s", more, r.lever.name, limit,
				strings.Join(s.since(mark), "\n"))
		}
	}
	s.expect(`(?m)^Local/s@standing`, "core show channels concise")
	s.wait("the media thread goes on", func() bool { return s.ticks() > ticks })
	s.Logf("+%d: %s", more, outcome)
	return outcome
}
