package faults

import (
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"testing"
	"time"
)

// sample is the present use by Asterisk and its engine.
type sample struct{ kilobytes, files int }

func (s *site) sample() sample {
	s.Helper()
	asterisk, engine := s.holds(s.pbx.PID()), s.holds(s.pbx.EnginePID())
	return sample{asterisk.kilobytes + engine.kilobytes, asterisk.files + engine.files}
}

// holds returns a process's use.
func (s *site) holds(pid int) sample {
	s.Helper()
	proc := fmt.Sprintf("/proc/%d", pid)
	status, err := os.ReadFile(filepath.Join(proc, "status"))
	if err != nil {
		s.Fatal(err)
	}
	kilobytes, _ := strconv.Atoi(regexp.MustCompile(`VmRSS:\s+(\d+)`).FindStringSubmatch(string(status))[1])
	files, err := os.ReadDir(filepath.Join(proc, "fd"))
	if err != nil {
		s.Fatal(err)
	}
	return sample{kilobytes, len(files)}
}

// soakFaults are the faults of a soak, in random order. Each returns at the fault's end.
func soakFaults(s *site) map[string]func() {
	seconds := func(most int) { s.lasts(time.Duration(1+rand.IntN(most)) * time.Second) }
	round := 0
	faults := map[string]func(){
		"brokers stopped": func() { s.must(s.brokers.stop()); seconds(30); s.must(s.brokers.start()) },
		"brokers frozen":  func() { s.must(s.brokers.freeze()); seconds(30); s.must(s.brokers.thaw()) },
		"reload":          func() { s.changeSomething(round); round++ },
		"quiet":           func() { seconds(10) },
	}
	if g, ok := s.brokers.(*gated); ok {
		cut := func(toBroker, toAsterisk bool) func() {
			return func() { g.proxy.set(toBroker, toAsterisk); seconds(20); g.proxy.set(false, false) }
		}
		faults["network cut"] = cut(true, true)
		faults["network cut to the brokers"] = cut(true, false)
		faults["network cut from the brokers"] = cut(false, true)
	}
	return faults
}

// TestSoak runs random faults for SOAK_MINUTES against one Asterisk under load. At the end every message is
// accounted for, no message is lost, and the process's use has not kept growing.
func TestSoak(t *testing.T) {
	minutes, _ := strconv.Atoi(os.Getenv("SOAK_MINUTES"))
	if minutes < 1 {
		t.Skip("SOAK_MINUTES is not set: run this by `make soak`")
	}
	size := theSize(t)
	size.rate, size.limit = 2500, time.Duration(minutes)*2*time.Minute+time.Hour
	modes := []mode{memory}
	if knowsDurability {
		modes = []mode{overflow, disk}
	}
	o := setup{on: onEmbedded, modes: modes, size: size, options: map[string]string{"queue_buffering_max_messages": "20000", "request_timeout_ms": "2000"}}
	if os.Getenv("RES_KAFKA_APACHE") != "" {
		o.on, o.proxy = onApache, true
	}
	s := newSite(t, o)
	s.load()
	s.acknowledged()
	faults := soakFaults(s)
	names := []string{}
	for name := range faults {
		names = append(names, name)
	}
	slices.Sort(names)
	var samples []sample
	done := map[string]int{}
	started, printed := time.Now(), 0
	for time.Since(started) < time.Duration(minutes)*time.Minute {
		name := names[rand.IntN(len(names))]
		faults[name]()
		done[name]++
		s.acknowledged()
		samples = append(samples, s.sample())
		if minute := int(time.Since(started) / time.Minute); minute > printed {
			printed = minute
			at := samples[len(samples)-1]
			fmt.Printf("minute %d: %d kB, %d descriptors, faults %v\n", minute, at.kilobytes, at.files, done)
		}
	}
	s.unload()
	s.drain()
	for _, l := range s.lanes {
		out := s.outcome(row{name: "soak", promise: all(memory, overflow, disk)}, o.on, l)
		out.judge(t)
		if c := out.counted; c.accepted != c.acknowledged+c.waiting+c.spooled+c.dead+c.dropped {
			t.Errorf("the counters of %s do not add up\n%s", l.name(), c.text)
		}
	}
	peak := slices.MaxFunc(samples, func(a, b sample) int { return a.kilobytes - b.kilobytes })
	note("soak of %d minutes: %v; %d samples under load, the middle one %+v, the largest %+v, the last %+v; at the end %+v", minutes, done,
		len(samples), samples[len(samples)/2], peak, samples[len(samples)-1], s.sample())
	flat(t, samples)
}

// flat fails if the use in the last third of the time exceeds the second third's by more than chance: 15 %
// and 8 MB, 3 descriptors.
func flat(t *testing.T, samples []sample) {
	t.Helper()
	third := len(samples) / 3
	if third < 3 {
		t.Logf("%d samples are too few to say whether anything grows", len(samples))
		return
	}
	middle := func(of []sample, what func(sample) int) int {
		values := []int{}
		for _, s := range of {
			values = append(values, what(s))
		}
		slices.Sort(values)
		return values[len(values)/2]
	}
	memory := func(s sample) int { return s.kilobytes }
	files := func(s sample) int { return s.files }
	before, after := samples[third:2*third], samples[2*third:]
	if a, b := middle(before, memory), middle(after, memory); float64(b) > 1.15*float64(a)+8192 {
		t.Errorf("memory grows: %d kB in the second third, %d kB in the last", a, b)
	}
	if a, b := middle(before, files), middle(after, files); b > a+3 {
		t.Errorf("descriptors grow: %d in the second third, %d in the last", a, b)
	}
}
