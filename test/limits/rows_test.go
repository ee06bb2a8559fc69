package limits

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
)

// row is one limit on one process, tried at many values in turn.
type row struct {
	name   string
	lever  lever
	on     target
	load   kind
	all    []int // how many steps more than now; make test-limits
	sample []int // make test
}

// target is the process under the limit.
type target int

const (
	asterisk target = iota // and later engines, by inheritance
	engine
	both
)

// kind is the work of Asterisk and the engine meanwhile.
type kind int

const (
	quiet      kind = iota // 50 records a second
	flood                  // 4,000 records a second
	killed                 // the same, and the engine is killed while the limit holds
	subscribed             // a few records a second, and a module subscribes while the limit holds
	opened                 // a flood, and a connection is used for the first time while the limit holds
)

func upTo(last int) (all []int) {
	for n := range last + 1 {
		all = append(all, n)
	}
	return all
}

// megabytes covers the module's mappings (up to some 100 MB) and the 1.3 GB of Go's reservation in the
// engine.
var megabytes = []int{0, 1, 2, 4, 8, 16, 32, 48, 60, 64, 80, 100, 128, 200, 256, 400, 512, 700, 900, 1100, 1300, 1500, 2000}

// afterRows are limits on running processes, set with prlimit(2) or by writing pids.max.
var afterRows = []row{
	{"pids.max, quiet", groupThreads, both, quiet, upTo(20), []int{0}},
	{"pids.max, flood", groupThreads, both, flood, upTo(20), []int{0, 2}},
	{"pids.max, engine killed", groupThreads, both, killed, upTo(20), []int{0, 7}},
	{"pids.max below the present count, engine killed", groupThreads, both, killed, []int{-20, -16, -12, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1}, []int{-12, -5}},
	{"pids.max, a connection is opened", groupThreads, both, opened, upTo(20), nil},
	{"pids.max, a module subscribes", groupThreads, both, subscribed, upTo(20), []int{0, 3}},
	{"RLIMIT_NPROC, quiet", userThreads, both, quiet, upTo(20), nil},
	{"RLIMIT_NPROC, flood", userThreads, both, flood, upTo(20), []int{0}},
	{"RLIMIT_NPROC, engine killed", userThreads, both, killed, upTo(20), []int{1}},
	{"RLIMIT_NPROC below the present count, engine killed", userThreads, both, killed, []int{-20, -16, -12, -10, -9, -8, -7, -6, -5, -4, -3, -2, -1}, []int{-12}},
	{"RLIMIT_NPROC, a module subscribes", userThreads, both, subscribed, upTo(20), nil},
	{"RLIMIT_NOFILE of Asterisk, quiet", descriptors, asterisk, quiet, upTo(20), nil},
	{"RLIMIT_NOFILE of Asterisk, flood", descriptors, asterisk, flood, upTo(20), []int{0}},
	{"RLIMIT_NOFILE of Asterisk, engine killed", descriptors, asterisk, killed, upTo(20), []int{0, 8}},
	{"RLIMIT_NOFILE of the engine, quiet", descriptors, engine, quiet, upTo(20), nil},
	{"RLIMIT_NOFILE of the engine, flood", descriptors, engine, opened, upTo(20), []int{0, 2}},
	{"RLIMIT_AS of Asterisk, quiet", addresses, asterisk, quiet, megabytes, nil},
	{"RLIMIT_AS of Asterisk, flood", addresses, asterisk, flood, megabytes, []int{0}},
	{"RLIMIT_AS of Asterisk, engine killed", addresses, asterisk, killed, megabytes, []int{64}},
	{"RLIMIT_AS of Asterisk, a module subscribes", addresses, asterisk, subscribed, megabytes, nil},
	{"RLIMIT_AS of the engine, quiet", addresses, engine, quiet, megabytes, nil},
	{"RLIMIT_AS of the engine, flood", addresses, engine, flood, megabytes, []int{0}},
	{"RLIMIT_AS of the engine, a connection is opened", addresses, engine, opened, megabytes, nil},
}

// beforeRows are limits under which the module is loaded.
var beforeRows = []row{
	{"pids.max, module load", groupThreads, asterisk, quiet, upTo(20), []int{0, 1, 3, 8}},
	{"RLIMIT_NPROC, module load", userThreads, asterisk, quiet, upTo(20), []int{0, 2, 5}},
	{"RLIMIT_NOFILE, module load", descriptors, asterisk, quiet, upTo(20), []int{0, 2, 7, 20}},
	{"RLIMIT_AS, module load", addresses, asterisk, quiet, megabytes, []int{0, 8, 64, 900}},
}

// values are the values of this run.
func (r row) values() []int {
	if long() {
		return r.all
	}
	return r.sample
}

// each runs the rows side by side.
func each(t *testing.T, rows []row, run func(t *testing.T, r row)) {
	for _, r := range rows {
		if len(r.values()) == 0 {
			continue
		}
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			run(t, r)
		})
	}
}

// setup prepares the needs of the row's limit.
func (r row) setup(t *testing.T) (o setup) {
	t.Helper()
	switch {
	case r.lever.rlimit < 0:
		o.group = newGroup(t, "pids", "pids.max")
	case r.lever.rlimit == rlimitNproc:
		o.user = aUser()
	}
	return o
}

// tally counts the outcomes of a row.
type tally struct {
	row    string
	counts map[string]int
	values map[string][]string
	order  []string
}

func newTally(row string) *tally {
	return &tally{row: row, counts: map[string]int{}, values: map[string][]string{}}
}

func (c *tally) add(outcome string, value int) {
	if c.counts[outcome] == 0 {
		c.order = append(c.order, outcome)
	}
	c.counts[outcome]++
	c.values[outcome] = append(c.values[outcome], fmt.Sprint(value))
}

func (c *tally) String() string {
	var parts []string
	for _, outcome := range c.order {
		parts = append(parts, fmt.Sprintf("%s: %d (%s)", outcome, c.counts[outcome], strings.Join(c.values[outcome], " ")))
	}
	return strings.Join(parts, "; ")
}

var resultsLock sync.Mutex

// report prints the outcomes of a row, and appends them to the table in RES_KAFKA_RESULTS.
func (c *tally) report(t *testing.T) {
	t.Helper()
	t.Logf("note: %s: %v", c.row, c)
	line(t, c.row, c.String())
}

func line(t *testing.T, name, outcome string) {
	t.Helper()
	path := os.Getenv("RES_KAFKA_RESULTS")
	if path == "" {
		return
	}
	resultsLock.Lock()
	defer resultsLock.Unlock()
	file, err := os.OpenFile(path, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		t.Error(err)
		return
	}
	defer file.Close()
	fmt.Fprintf(file, "| %s | %s |\n", name, outcome)
}
