package faults

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
	"unsafe"

	"reskafka/test/child"
	"reskafka/test/pbx"
)

// engine waits until an engine serves and returns its process id.
func (s *site) engine() (pid int) {
	s.Helper()
	s.until("an engine that serves", func() bool {
		pid = s.pbx.EnginePID()
		return pid != 0 && strings.Contains(s.cli("kafka show status"), fmt.Sprintf("Process id:      %d\n", pid))
	})
	return pid
}

// loseEngine runs do on the engine, waits for another engine, and counts the messages in flight.
func (s *site) loseEngine(do func(pid int)) {
	s.Helper()
	lost := s.engine()
	until := s.underWay()
	do(lost)
	s.until(fmt.Sprintf("the end of engine %d", lost), func() bool { return s.pbx.EnginePID() != lost })
	s.engine()
	until()
}

func (s *site) signal(signal syscall.Signal) func(pid int) {
	return func(pid int) { s.must(syscall.Kill(pid, signal)) }
}

// undisturbed is the promise of rows with dying engines: with every durability, records are found in shared
// memory or on disk.
func undisturbed(modes ...mode) map[mode]promise {
	promises := map[mode]promise{}
	for _, m := range modes {
		promises[m] = promise{text: "0 lost, twice at most what was in flight, no call over 5 ms", killed: true, broken: func(o *outcome) []string {
			return append(append(everything(o), atMostInFlight(o)...), notSlow(o)...)
		}}
	}
	return promises
}

// notSlow allows no call above 5 ms without waits for a processor.
func notSlow(o *outcome) (broken []string) {
	if o.slowOwn > 0 {
		broken = append(broken, fmt.Sprintf("%d calls took more than 5 ms of their own time, the longest %v", o.slowOwn, o.own))
	}
	return broken
}

// short returns one of two values by the size of the run.
func (size size) pick(short, full int) int {
	if size.short {
		return short
	}
	return full
}

// TestEngineKilledEvery kills the engine every five seconds while calls, consoles and a consumer go on.
func TestEngineKilledEvery(t *testing.T) {
	run(t, row{
		name: rowNames[14], on: onEmbedded, full: onApache, options: large(nil), promise: undisturbed(memory, overflow, disk), watched: true,
		fault: func(s *site) {
			every := time.Duration(s.size.pick(1500, 5000)) * time.Millisecond
			for range s.size.pick(3, 60) {
				next := time.Now().Add(every)
				s.loseEngine(s.signal(syscall.SIGKILL))
				s.lasts(time.Until(next))
			}
			s.acknowledged()
		},
	})
}

// TestEngineStopped stops the engine with SIGSTOP: the supervisor notices after 30 seconds of silence and
// replaces the engine.
func TestEngineStopped(t *testing.T) {
	run(t, row{
		name: rowNames[15], on: onEmbedded, full: onApache, options: large(nil), promise: undisturbed(memory, overflow, disk), watched: true,
		fault: func(s *site) {
			for range s.size.pick(1, 3) {
				s.loseEngine(func(pid int) { s.must(child.Pause(pid)) })
				if lines := s.logged("ERROR.*Kafka engine.*it did not answer for 30 seconds"); len(lines) == 0 {
					s.Error("the log does not say that the engine was silent")
				}
			}
			s.acknowledged()
		},
	})
}

// Resources of prlimit.
const (
	limitFiles     = 7 // RLIMIT_NOFILE
	limitAddresses = 9 // RLIMIT_AS
)

// limit sets a soft limit of a running process.
func (s *site) limit(pid, resource int, value uint64) {
	s.Helper()
	var now syscall.Rlimit
	call := func(to, from *syscall.Rlimit) {
		_, _, errno := syscall.RawSyscall6(syscall.SYS_PRLIMIT64, uintptr(pid), uintptr(resource), uintptr(unsafe.Pointer(to)), uintptr(unsafe.Pointer(from)), 0, 0)
		if errno != 0 {
			s.Fatalf("prlimit of process %d: %v", pid, errno)
		}
	}
	call(nil, &now)
	now.Cur = min(value, now.Max)
	call(&now, nil)
}

// starve sets a limit of the serving engine, runs do, and lifts the limit. Then starve kills the engine and
// limits the next engines at their start, before they have their resources; the last engine is unlimited. The
// number of engines killed by the limit is returned.
func (s *site) starve(births int, set, lift func(pid int), do func()) (serving, born int) {
	s.Helper()
	pid, until := s.engine(), s.underWay()
	set(pid)
	do()
	if s.pbx.EnginePID() == pid {
		lift(pid)
	} else {
		serving++
	}
	s.engine()
	until()
	s.acknowledged()
	s.loseEngine(func(pid int) {
		parent := s.parentOf(pid)
		s.must(syscall.Kill(pid, syscall.SIGKILL))
		for range births {
			next := pid
			for deadline := time.Now().Add(patience); next == pid || next == 0; next = s.childOf(parent) {
				if time.Now().After(deadline) {
					s.Fatal("no other engine is started")
				}
			}
			set(next)
			time.Sleep(300 * time.Millisecond) // an engine starts within some 10 ms
			pid = next
			if s.pbx.EnginePID() == pid && syscall.Kill(pid, 0) == nil {
				lift(pid)
				_ = syscall.Kill(pid, syscall.SIGKILL)
			} else {
				born++
			}
		}
	})
	return serving, born
}

// parentOf returns the file with the children of the thread in charge of an engine.
func (s *site) parentOf(pid int) string {
	s.Helper()
	files, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/children", s.pbx.PID()))
	for _, file := range files {
		if text, err := os.ReadFile(file); err == nil && slices.Contains(strings.Fields(string(text)), strconv.Itoa(pid)) {
			return file
		}
	}
	s.Skip("SKIPPED: this kernel has no /proc/PID/task/TID/children")
	return ""
}

// childOf returns the child of a thread with one child at most, 0 when there is none.
func (s *site) childOf(file string) (pid int) {
	text, _ := os.ReadFile(file)
	pid, _ = strconv.Atoi(strings.TrimSpace(string(text)))
	return pid
}

// starved is a row for engines without some resource. set and lift change the limit of one engine. With deadly
// at least one engine must die.
func starved(t *testing.T, name string, deadly bool, set, lift func(s *site, pid int), do func(s *site)) {
	run(t, row{
		name: name, on: onEmbedded, full: onApache, options: large(nil), promise: undisturbed(memory, overflow, disk), watched: true,
		fault: func(s *site) {
			rounds, births, serving, born := s.size.pick(1, 2), 2, 0, 0
			for range rounds {
				a, b := s.starve(births, func(pid int) { set(s, pid) }, func(pid int) { lift(s, pid) }, func() { do(s) })
				serving, born = serving+a, born+b
			}
			note("%s, %s: %d of %d engines died while they served, %d of %d at their start", name, s.modes(), serving, rounds, born, rounds*births)
			if deadly && serving+born == 0 {
				s.Errorf("%s: no engine died: this run shows nothing", name)
			}
			s.acknowledged()
		},
	})
}

// TestEngineOutOfAddresses leaves engines no address space while brokers are frozen and memory grows.
func TestEngineOutOfAddresses(t *testing.T) {
	starved(t, rowNames[16], true, func(s *site, pid int) { s.limit(pid, limitAddresses, 1<<20) },
		func(s *site, pid int) { s.limit(pid, limitAddresses, 1<<62) },
		func(s *site) {
			s.must(s.brokers.freeze())
			s.lasts(s.size.frozen)
			s.must(s.brokers.thaw())
		})
}

// reconnected has all connections end and be made again.
func (s *site) reconnected() {
	s.Helper()
	s.must(s.brokers.stop())
	s.lasts(s.size.frozen / 3)
	s.must(s.brokers.start())
	s.lasts(s.size.frozen / 3)
}

// TestEngineOutOfDescriptors takes descriptors from engines while connections end and the spool needs files.
func TestEngineOutOfDescriptors(t *testing.T) {
	starved(t, rowNames[17], true, func(s *site, pid int) { s.limit(pid, limitFiles, 3) },
		func(s *site, pid int) { s.limit(pid, limitFiles, 1<<62) }, (*site).reconnected)
}

// engineGroup makes a control group of version 1 for the engine alone. The test is skipped where there is none.
func engineGroup(t *testing.T, controller string) (folder string) {
	t.Helper()
	folder, err := os.MkdirTemp(filepath.Join("/sys/fs/cgroup", controller), "res-kafka-test-")
	if err != nil {
		t.Skipf("SKIPPED: no control group of %s can be made here: %v", controller, err)
	}
	t.Cleanup(func() { _ = os.Remove(folder) })
	return folder
}

// putInto moves a process into a control group and sets a limit of the group.
func (s *site) putInto(group string, pid int, file string, limit int) {
	s.Helper()
	s.must(os.WriteFile(filepath.Join(group, file), []byte(strconv.Itoa(limit)), 0))
	s.must(os.WriteFile(filepath.Join(group, "cgroup.procs"), []byte(strconv.Itoa(pid)), 0))
}

// TestEngineOutOfThreads allows engines no further thread. An engine with all its threads goes on.
func TestEngineOutOfThreads(t *testing.T) {
	group := engineGroup(t, "pids")
	starved(t, rowNames[18], false, func(s *site, pid int) { s.putInto(group, pid, "pids.max", 1) },
		func(s *site, pid int) { s.must(os.WriteFile(filepath.Join(group, "pids.max"), []byte("max"), 0)) }, (*site).reconnected)
}

// TestEngineOutOfMemory makes the kernel kill the engine for memory.
func TestEngineOutOfMemory(t *testing.T) {
	group := engineGroup(t, "memory")
	run(t, row{
		name: rowNames[19], on: onEmbedded, full: onApache, options: large(nil), promise: undisturbed(memory, overflow, disk), watched: true,
		fault: func(s *site) {
			for range s.size.pick(1, 5) {
				s.loseEngine(func(pid int) {
					// Memory in use already stays charged to the old group.
					s.putInto(group, pid, "memory.limit_in_bytes", 128<<10)
				})
			}
			s.acknowledged()
		},
	})
}

// TestEngineKilledWithAFullDisk kills engines while the spool has no room and brokers are away.
func TestEngineKilledWithAFullDisk(t *testing.T) {
	dir, err := newSmallDisk(t)
	if err != nil {
		t.Skipf("SKIPPED: no small file system can be had here: %v", err)
	}
	promises := undisturbed(overflow, disk)
	for m, p := range promises {
		inner := p.broken
		p.broken = func(o *outcome) []string {
			broken := inner(o)
			if o.refused == 0 {
				broken = append(broken, "none refused: this run shows nothing")
			}
			return broken
		}
		promises[m] = p
	}
	run(t, row{
		name: rowNames[20], on: onEmbedded, promise: promises, watched: true,
		options: func(size) map[string]string {
			return map[string]string{"spool_dir": filepath.Join(dir, "spool"), "spool_max_mbytes": "1024", "queue_buffering_max_messages": "1000"}
		},
		fault: func(s *site) {
			until := s.underWay()
			s.must(s.brokers.stop())
			full := filepath.Join(dir, fmt.Sprintf("ballast-%d", sites.Load()))
			s.must(ballast(full, leftMB<<20*len(s.lanes)))
			for _, l := range s.lanes {
				s.until("the first refusal of "+l.name(), func() bool { return l.ledger.Refused() > 0 })
			}
			until() // the messages possibly at the brokers
			for range s.size.pick(2, 20) {
				pid := s.engine()
				s.lasts(2500 * time.Millisecond) // the pause before the next engine grows otherwise
				s.must(syscall.Kill(pid, syscall.SIGKILL))
				s.until("the engine's end", func() bool { return s.pbx.EnginePID() != pid })
				s.engine()
			}
			s.must(os.Remove(full))
			s.must(s.brokers.start())
			s.acknowledged()
		},
	})
}

// TestKilledAndNotStarted kills Asterisk during traffic: the engine delivers all accepted messages.
func TestKilledAndNotStarted(t *testing.T) {
	promises := undisturbed(memory, overflow, disk)
	run(t, row{
		name: rowNames[21], on: onEmbedded, full: onApache, options: large(nil), promise: promises,
		fault: func(s *site) {
			for range s.size.pick(1, 5) {
				s.produced(s.size.around)
				s.acknowledged()
				engine, until := s.engine(), s.underWay()
				s.produced(int(s.size.rate / 20))
				s.must(s.pbx.Stop(pbx.Kill))
				killed, arrived, last := time.Now(), time.Now(), s.ends()
				for syscall.Kill(engine, 0) == nil {
					if now := s.ends(); now != last {
						last, arrived = now, time.Now()
					}
					if time.Since(killed) > patience {
						s.Fatalf("engine %d does not end", engine)
					}
					time.Sleep(5 * time.Millisecond)
				}
				note("Asterisk killed, %s: the last record arrived %v after the kill, the engine ended after %v", s.modes(),
					arrived.Sub(killed).Round(time.Millisecond), time.Since(killed).Round(time.Millisecond))
				until()
				s.delivered()
				s.boot()
				s.load()
			}
			s.acknowledged()
		},
	})
}

// delivered fails when a topic lacks an accepted record.
func (s *site) delivered() {
	s.Helper()
	for _, l := range s.lanes {
		client := s.client()
		d, err := readTopic(s.ctx, client, l.topic, l.ledger, keys)
		client.Close()
		if err != nil {
			s.Fatal(err)
		}
		if d.lost > 0 {
			s.Errorf("%s: %d accepted records did not arrive although the brokers were up", l.name(), d.lost)
		}
	}
}

// TestBothKilled kills Asterisk and the engine at once, every second time without brokers: the next start
// finds all messages.
func TestBothKilled(t *testing.T) {
	run(t, row{
		name: rowNames[22], on: onEmbedded, full: onApache, options: large(nil), promise: undisturbed(disk),
		fault: func(s *site) {
			for i := range s.size.pick(2, 20) {
				s.produced(s.size.around / 4)
				s.acknowledged()
				engine, until := s.engine(), s.underWay()
				if i%2 == 1 {
					s.must(s.brokers.stop())
				}
				s.produced(int(s.size.rate / 20))
				s.must(child.Pause(engine)) // otherwise the engine would deliver Asterisk's messages
				s.must(s.pbx.Stop(pbx.Kill))
				s.must(syscall.Kill(engine, syscall.SIGKILL))
				for syscall.Kill(engine, 0) == nil {
					time.Sleep(time.Millisecond)
				}
				until()
				if i%2 == 1 {
					s.must(s.brokers.start())
				}
				s.boot()
				s.load()
			}
			s.acknowledged()
		},
	})
}
