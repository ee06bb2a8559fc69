package faults

import (
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"reskafka/test/pbx"
)

// underWay books for each lane the largest number of accepted and unacknowledged messages: accepted at the
// read of the counters, plus all accepted until the call of until.
func (s *site) underWay() (until func()) {
	s.Helper()
	counts, accepted := map[*lane]count{}, map[*lane]int{}
	for _, l := range s.lanes {
		accepted[l] = l.ledger.Accepted()
		counts[l] = s.count(l)
	}
	return func() {
		for _, l := range s.lanes {
			c := counts[l]
			l.inFlight += c.accepted - c.acknowledged - c.dead - c.dropped + l.ledger.Accepted() - accepted[l]
		}
	}
}

// TestKilledInTraffic kills Asterisk during traffic: messages in flight may come again, or are lost from
// memory only. No other message is lost.
func TestKilledInTraffic(t *testing.T) {
	lostInFlight := func(o *outcome) []string {
		broken := atMostInFlight(o)
		if o.lost > o.lane.inFlight {
			broken = append(broken, fmt.Sprintf("%d lost, though only %d were in flight", o.lost, o.lane.inFlight))
		}
		return broken
	}
	counted := promise{text: "lost at most what was in flight", killed: true, broken: lostInFlight}
	none := promise{text: "0 lost, twice at most what was in flight", killed: true, broken: func(o *outcome) []string {
		return append(everything(o), atMostInFlight(o)...)
	}}
	run(t, row{
		name: rowNames[11], on: onEmbedded, full: onApache, options: large(nil),
		promise: map[mode]promise{memory: counted, overflow: none, disk: none},
		fault: func(s *site) {
			for range s.size.kills {
				s.produced(1 + rand.IntN(s.size.around/4))
				s.acknowledged()
				until := s.underWay()
				s.produced(int(s.size.rate / 20)) // 50 ms: settlements are written within 10
				s.must(s.pbx.Stop(pbx.Kill))
				until()
				s.boot()
				s.load()
			}
			s.acknowledged()
		},
	})
}

// TestEngineKilled kills the engine during traffic. With any durability, the next engine finds every record
// in shared memory or in the spool; records in flight may come again.
func TestEngineKilled(t *testing.T) {
	none := promise{text: "0 lost, twice at most what was in flight", killed: true, broken: func(o *outcome) []string {
		return append(everything(o), atMostInFlight(o)...)
	}}
	run(t, row{
		name: rowNames[13], on: onEmbedded, full: onApache, options: large(nil),
		promise: map[mode]promise{memory: none, overflow: none, disk: none},
		fault: func(s *site) {
			for range s.size.kills {
				s.produced(1 + rand.IntN(s.size.around/4))
				s.acknowledged()
				until := s.underWay()
				s.produced(int(s.size.rate / 20))
				killed := s.pbx.EnginePID()
				s.must(syscall.Kill(killed, syscall.SIGKILL))
				s.until("another engine", func() bool {
					pid := s.pbx.EnginePID()
					return pid != 0 && pid != killed && strings.Contains(s.cli("kafka show status"), fmt.Sprintf("Process id:      %d\n", pid))
				})
				until()
			}
			s.acknowledged()
		},
	})
}

// dropped adds up the records given up in Asterisk's log since a line.
func (s *site) dropped(since int) {
	for _, line := range s.pbx.LogLines()[since:] {
		if m := givenUp.FindStringSubmatch(line); m != nil {
			for _, l := range s.lanes {
				if l.topic == m[2] {
					n, _ := strconv.Atoi(m[1])
					l.loggedLost += n
				}
			}
		}
	}
}

// timed runs a console command with an expected output, and returns the duration, including the console's
// start.
func (s *site) timed(wanted, command string) time.Duration {
	s.Helper()
	started := time.Now()
	printed := s.cli("%s", command)
	took := time.Since(started)
	if !strings.Contains(printed, wanted) {
		s.Fatalf("%s prints %q", command, printed)
	}
	return took.Round(time.Millisecond)
}

// TestStoppedWhileTheBrokerIsFrozen unloads the modules, and later stops Asterisk, with frozen brokers and a
// subscribed consumer. The durations are below the table.
func TestStoppedWhileTheBrokerIsFrozen(t *testing.T) {
	kept := promise{text: "0 lost", killed: true, broken: func(o *outcome) []string {
		return append(everything(o), atMostInFlight(o)...)
	}}
	group := map[string]string{"group_id": "listening", "auto_offset_reset": "earliest"}
	run(t, row{
		name: rowNames[12], on: onEmbedded, full: onApache, options: large(group),
		promise: map[mode]promise{overflow: kept, disk: kept, memory: {text: "counted in the log", killed: true, broken: countedInLog}},
		fault: func(s *site) {
			s.listen()
			s.must(s.brokers.freeze())
			until := s.underWay()
			s.produced(s.size.around / 2)
			s.unload()
			until()
			console := s.timed("Asterisk", "core show version")
			mark := len(s.pbx.LogLines())
			consumer := s.timed("Unloaded", "module unload kafka_probe.so")
			module := s.timed("Unloaded", "module unload res_kafka.so")
			s.dropped(mark)

			s.timed("Loaded", "module load res_kafka.so")
			s.timed("Loaded", "module load kafka_probe.so")
			until = s.underWay()
			s.load()
			s.produced(s.size.around / 2)
			mark = len(s.pbx.LogLines())
			started := time.Now()
			s.must(s.pbx.Stop(pbx.Now))
			stop := time.Since(started).Round(time.Millisecond)
			until()
			s.dropped(mark)
			note("brokers frozen, %s: a console command takes %v, unloading who consumes %v, unloading res_kafka %v, core stop now %v",
				s.modes(), console, consumer, module, stop)

			s.must(s.brokers.thaw())
			s.boot()
			s.load()
			s.acknowledged()
		},
	})
}

// listen subscribes to the first lane's topic and waits for the first message.
func (s *site) listen() {
	s.Helper()
	l := s.lanes[0]
	got := filepath.Join(s.dir, "got")
	if printed := s.cli(`kafka probe subscribe %s %s %s 0`, l.name(), l.topic, got); !strings.Contains(printed, "subscribe 0") {
		s.Fatal(printed)
	}
	s.until("a message to be consumed", func() bool { return fileSize(got) > 0 })
}

func countedInLog(o *outcome) (broken []string) {
	if o.loggedLost == 0 {
		broken = append(broken, "nothing was given up: this run shows nothing")
	}
	if o.lost > o.loggedLost {
		broken = append(broken, fmt.Sprintf("%d lost, of which the log has %d", o.lost, o.loggedLost))
	}
	return append(broken, atMostInFlight(o)...)
}
