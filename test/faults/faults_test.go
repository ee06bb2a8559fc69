// Package faults checks the promises about accepted messages when brokers, the network, the disk or Asterisk
// fail. For each fault and each durability a load of 8 threads at 5,000 messages a second runs in a real
// Asterisk throughout. An independent reader then compares the topic with the return value of every produce
// call.
//
// `make test-faults` runs every row in full, in sequence, and N=2 doubles the duration of faults. With
// -short, as in `make test`, faults last seconds, and the modes of a row share an Asterisk. The table is
// printed at the end, or written to the file in RES_KAFKA_RESULTS. No time is asserted, only printed.
//
// Environment of scripts/test: RES_KAFKA_ROOT, RES_KAFKA_BUILD, RES_KAFKA_INSTALL, and RES_KAFKA_APACHE for
// rows beyond the embedded broker.
package faults

import (
	"flag"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

func TestMain(m *testing.M) {
	flag.Parse()
	if testing.Short() && flag.Lookup("test.run").Value.String() == "" {
		go warmUp(3) // the longest wait of a short run
	}
	status := m.Run()
	if err := closeClusters(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	if err := printTable(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// mode is a durability.
type mode string

// The modes, in the order of the table's columns.
const (
	memory   mode = "memory"
	overflow mode = "overflow"
	disk     mode = "disk"
)

// size says how large a run is.
type size struct {
	short   bool
	rate    float64       // messages per second of each lane
	around  int           // messages of each lane before and after the fault
	timeout time.Duration // message_timeout_ms, for rows with expired messages
	frozen  time.Duration // the time for 30 s in the table
	kills   int
	reloads int
	every   time.Duration // between reloads
	limit   time.Duration // for all of the run
}

// theSize is the size of this run, from -short and FAULTS_N.
func theSize(t *testing.T) size {
	if testing.Short() {
		return size{
			short: true, rate: 1000, around: 1000, timeout: time.Second, frozen: 3 * time.Second, kills: 2, reloads: 4,
			every: 500 * time.Millisecond, limit: 5 * time.Minute,
		}
	}
	n := 1
	if text := os.Getenv("FAULTS_N"); text != "" {
		var err error
		if n, err = strconv.Atoi(text); err != nil || n < 1 {
			t.Fatalf("FAULTS_N is %q, want a number from 1 on", text)
		}
	}
	times := time.Duration(n)
	return size{
		rate: 5000, around: 20000, timeout: times * 5 * time.Second, frozen: times * 30 * time.Second, kills: 20 * n, reloads: 10 * n,
		every: 2 * time.Second, limit: times * time.Hour,
	}
}

// row is a fault.
type row struct {
	name       string
	on         place
	full       place // in full runs, if different
	proxy      bool
	promise    map[mode]promise
	options    func(size) map[string]string
	assignment []int32
	plain      []mode // without idempotence, so duplicates are allowed
	watched    bool   // calls, consoles and a consumer must not notice, see watch; nor may a call to produce take more than 5 ms
	// fault runs during the load and returns at the fault's end; the load continues for a while then.
	fault func(s *site)
}

// promise is the content of a cell of the table.
type promise struct {
	text string
	// broken lists violations of the promise, besides always.
	broken func(o *outcome) []string
	killed bool // Asterisk is killed or stopped: counters do not cover all of the load
}

// run runs one row: in a short run all modes at once in one Asterisk, otherwise in sequence.
func run(t *testing.T, r row) {
	size := theSize(t)
	var modes []mode
	for _, m := range []mode{memory, overflow, disk} {
		if r.promise[m].broken != nil && (m == memory || knowsDurability) {
			modes = append(modes, m)
		}
	}
	if len(modes) == 0 {
		t.Skip("this build has no durability but memory")
	}
	if size.short {
		t.Parallel()
		cells := measure(t, r, size, modes)
		for _, o := range cells {
			t.Run(string(o.lane.mode), func(t *testing.T) { o.judge(t) })
		}
		return
	}
	for _, m := range modes {
		t.Run(string(m), func(t *testing.T) {
			for _, o := range measure(t, r, size, []mode{m}) {
				o.judge(t)
			}
		})
	}
}

// measure runs the fault at a site and reads the results.
func measure(t *testing.T, r row, size size, modes []mode) (cells []*outcome) {
	on := r.on
	if r.full != "" && !size.short {
		on = r.full
	}
	s := newSite(t, setup{on: on, proxy: r.proxy, modes: modes, options: r.options(size), plain: r.plain, assignment: r.assignment, size: size, watched: r.watched})
	started := time.Now()
	s.load()
	s.acknowledged()
	var beside *watch
	if r.watched {
		beside = s.watch()
	}
	s.produced(size.around)
	r.fault(s)
	s.produced(size.around)
	s.unload()
	loaded := time.Since(started)
	s.drain()
	if r.watched {
		beside.end(r)
	}
	for _, l := range s.lanes {
		cells = append(cells, s.outcome(r, on, l))
	}
	t.Logf("%s: load for %v, drained after %v", r.name, loaded.Round(time.Second), (time.Since(started) - loaded).Round(time.Second/10))
	return cells
}

// knowsDurability is whether this build has the option.
var knowsDurability = func() bool {
	text, err := os.ReadFile("../../internal/engine/connection.go")
	return err == nil && strings.Contains(string(text), "Durability")
}()
