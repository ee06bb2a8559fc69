package limits

import (
	"fmt"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// TestLimitsAfterLoad guards a promise: no limit, set at any time, harms Asterisk through res_kafka. Calls
// continue. The engine continues, waits for the end of the limit, or is restarted. The log names the limit.
// All records arrive.
func TestLimitsAfterLoad(t *testing.T) {
	t.Parallel()
	each(t, afterRows, func(t *testing.T, r row) {
		o := r.setup(t)
		o.load = ourModules
		o.files = map[string]string{"kafka.conf": defaultFiles["kafka.conf"] + spares(r.values())}
		s := newSite(t, o)
		s.engine()
		s.begin(r.load)
		outcomes := newTally(r.name)
		for i, more := range r.values() {
			outcomes.add(s.squeeze(r, i, more), more)
		}
		outcomes.report(t)
		s.end()
	})
}

// spares are connections first used under a limit.
func spares(values []int) string {
	var text strings.Builder
	for i := range values {
		fmt.Fprintf(&text, "\n[spare%d]\ntype = connection\nbrokers = %%BROKER%%\n", i)
	}
	return text.String()
}

const topic = "flood"

// begin places the call to survive everything, and starts to produce.
func (s *site) begin(load kind) {
	s.Helper()
	s.cli("media start")
	s.cli("channel originate Local/s@standing application Echo")
	s.until(`(?m)^Local/s@standing`, "core show channels concise")
	s.until(`Message sent successfully`, "kafka test send connection producing topic %s message x", "first")
	rate := 50
	if load != quiet && load != subscribed {
		rate = 4000
	}
	s.expect(`ensure 0`, "kafka probe ensure producing %s 4 1 wait", topic)
	s.expect(`check 0`, "kafka flood check consuming %s 8 1000000 16", topic)
	s.expect(`start 0`, "kafka flood start producing %s 8 1000000 16 %d 1000000", topic, rate)
}

var flooded = regexp.MustCompile(`produced (\d+) refusals (\d+) came (\d+) twice \d+ again \d+ disordered (\d+) strange (\d+)`)

// end checks that every record has arrived, in the order of its key, and the call is still up.
func (s *site) end() {
	s.Helper()
	s.expect(`(?m)^Local/s@standing`, "core show channels concise")
	s.cli("kafka flood stop")
	s.allCome()
}

// allCome waits for all records of the flood and checks their order.
func (s *site) allCome() {
	s.Helper()
	var m []string
	for deadline, last := time.Now().Add(patience), ""; ; time.Sleep(50 * time.Millisecond) {
		m = s.expect(flooded.String(), "kafka flood show")
		if m[1] == m[3] {
			break
		}
		if m[3] != last { // as long as more come
			last, deadline = m[3], time.Now().Add(patience)
		}
		if time.Now().After(deadline) {
			s.Fatalf("no more records come: %s\n%s%s%s", m[0], s.cli("kafka show connection producing"),
				s.cli("kafka show consumer consuming"), strings.Join(s.since(0), "\n"))
		}
	}
	if m[4] != "0" || m[5] != "0" {
		s.Errorf("records out of order: %s", m[0])
	}
	s.Logf("%s", m[0])
}

// calls counts calls placed under a limit.
type calls struct{ placed, failed int }

// startCalls places calls for some time. Only Asterisk itself opens or starts anything for these calls later.
func (s *site) startCalls(seconds float64) <-chan calls {
	result := make(chan calls, 1)
	go func() {
		printed, _ := s.pbx.CLI(fmt.Sprintf("call load s@calls 2 10 %g", seconds))
		var c calls
		if m := regexp.MustCompile(`calls (\d+)\s+failed (\d+)`).FindStringSubmatch(printed); m != nil {
			c.placed, _ = strconv.Atoi(m[1])
			c.failed, _ = strconv.Atoi(m[2])
		}
		result <- c
	}()
	return result
}

// How long a limit holds, and when within this time the engine is killed or a connection is opened.
const (
	holds  = 1200 * time.Millisecond
	acting = 300 * time.Millisecond
)

// squeeze sets the limit for a moment and returns the engine's fate.
func (s *site) squeeze(r row, index, more int) string {
	s.Helper()
	before, mark := s.engine(), s.lines()
	placed := s.startCalls(holds.Seconds())
	time.Sleep(100 * time.Millisecond)
	ticks := s.ticks()
	var limits []uint64
	var pids []int
	for _, pid := range r.pids(s.pbx.PID(), before) {
		limits, pids = append(limits, r.lever.set(s, pid, more)), append(pids, pid)
	}
	time.Sleep(acting)
	switch r.load {
	case killed:
		_ = syscall.Kill(before, syscall.SIGKILL)
	case subscribed:
		s.expect(`subscribe (0|-1)`, "kafka probe subscribe listening t %s 0", filepath.Join(s.dir, "received"))
	case opened:
		s.cli("kafka test send connection spare%d topic t message x", index)
	}
	time.Sleep(holds - acting)
	s.must(s.pbx.Crashed())
	for _, pid := range pids {
		r.lever.lift(s, pid)
	}
	c := <-placed
	if r.on == engine && (c.placed == 0 || c.failed > 0) {
		s.Errorf("+%d: %d calls were placed and %d failed, although the limit was the engine's", more, c.placed, c.failed)
	}
	if s.ticks() <= ticks {
		s.Errorf("+%d: the media thread stands still", more)
	}
	if r.load == subscribed {
		s.cli("kafka probe end")
	}
	s.cli("module reload res_kafka.so") // ends the pause before the next engine
	after := s.engine()
	s.until(`Message sent successfully`, "kafka test send connection producing topic %s message x", "first")
	s.expect(`completed 2`, "call probe s@calls 2")
	outcome := s.judge(r, mark, more, limits, before == after)
	s.Logf("+%d: %s; %d calls placed, %d failed", more, outcome, c.placed, c.failed)
	return outcome
}

// pids returns the processes under the limit.
func (r row) pids(ofAsterisk, ofEngine int) []int {
	switch {
	case r.lever.rlimit < 0:
		return []int{0} // the group of both
	case r.on == asterisk:
		return []int{ofAsterisk}
	case r.on == engine:
		return []int{ofEngine}
	default:
		return []int{ofAsterisk, ofEngine}
	}
}

func (s *site) ticks() int {
	s.Helper()
	n, _ := strconv.Atoi(s.expect(`ticks (\d+)`, "media show")[1])
	return n
}

// ours matches the lines about limits to be explained in the log, except lines about the test's own kill
// and its own reload before the next engine answers.
var (
	ours     = regexp.MustCompile(`(ERROR|WARNING)\[.*(kafka|Kafka)`)
	byTest   = regexp.MustCompile(`\(pid \d+\) was ended by signal 9; another one|\(pid \d+\) ended; another one|the Kafka engine is not there to answer; it is being restarted`)
	notStart = regexp.MustCompile(`engine cannot be started`)
)

// judge reads the log since mark. Each failure has to name the limit, its value and the remedy.
func (s *site) judge(r row, mark, more int, limits []uint64, same bool) string {
	s.Helper()
	var unexplained []string
	explained, waited := false, false
	for _, l := range s.since(mark) {
		if !ours.MatchString(l) || byTest.MatchString(l) {
			continue
		}
		waited = waited || notStart.MatchString(l)
		if r.explains(l, limits) {
			if !explained {
				s.Logf("+%d: %s", more, l)
			}
			explained = true
		} else {
			unexplained = append(unexplained, l)
		}
	}
	if len(unexplained) > 0 && !explained || r.load != killed && !same && !explained {
		s.Errorf("+%d: no line names %s, its value %v and the remedy:\n%s", more, r.lever.name, limits, strings.Join(unexplained, "\n"))
	}
	switch {
	case waited:
		return "engine waited"
	case same && explained:
		return "engine went on, with a sentence"
	case same:
		return "engine went on"
	case r.load == killed && !explained:
		return "engine was started at once"
	}
	return "engine was started again"
}

// explains reports whether a line names the limit, its value and the remedy.
func (r row) explains(line string, limits []uint64) bool {
	if !strings.Contains(line, r.lever.name) || !regexp.MustCompile(r.lever.remedy).MatchString(line) {
		return false
	}
	for _, limit := range limits {
		if strings.Contains(line, strconv.FormatUint(limit, 10)) || strings.Contains(line, strconv.FormatUint(limit>>20, 10)+" MB") {
			return true
		}
	}
	return false
}
