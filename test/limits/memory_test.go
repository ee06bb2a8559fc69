package limits

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"reskafka/test/port"
)

// TestMemory_OutageUnderLoad_NothingLost guards a promise: a control group without memory never takes the
// PBX. Asterisk and the engine have 256 MB or less, and no broker while records of 3 kB arrive. The kernel
// may kill the engine only. Every accepted record arrives.
func TestMemory_OutageUnderLoad_NothingLost(t *testing.T) {
	t.Parallel()
	const bytes = 3000
	type outage struct {
		megabytes     int
		durability    string
		records, rate int
	}
	rows := []outage{{256, "memory", 48000, 8000}, {256, "disk", 48000, 8000}}
	if long() {
		rows = nil
		for _, durability := range []string{"memory", "overflow", "disk"} {
			for _, rate := range []int{2000, 4000, 8000, 20000} {
				rows = append(rows, outage{256, durability, 80000, rate})
			}
			rows = append(rows, outage{96, durability, 80000, 8000})
		}
	}
	for _, r := range rows {
		name := fmt.Sprintf("%d MB, %s, %d records of %d bytes, %d/s", r.megabytes, r.durability, r.records, bytes, r.rate)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			conf := "[producing]\ntype = connection\nbrokers = %s\nmessage_timeout_ms = 3600000\ndurability = " + r.durability + "\n"
			s := newSite(t, setup{group: memoryGroup(t, int64(r.megabytes)<<20), load: ourModules, refused: port.Refused(t), files: map[string]string{
				"kafka.conf": fmt.Sprintf(conf, "%BROKER%"),
			}})
			first := s.engine()
			l := s.newLedger()
			s.expect(`start 0`, "kafka steady start producing %s %s 16 %d %d", topic, l.Path, bytes, r.rate)
			s.wait("the load is through", func() bool { return l.Calls() >= r.records })
			s.cli("kafka steady stop")
			peak := s.peak()
			s.startBroker()
			s.must(s.pbx.WriteFile("kafka.conf", fmt.Sprintf(conf, s.broker.Address)))
			began := time.Now()
			s.cli("module reload res_kafka.so")
			records := s.arrived(topic, l)
			result := fmt.Sprintf("%d accepted, %d refused, all accepted ones arrived within %.0f s, %d twice; peak %s", l.Accepted(), l.Refused(),
				time.Since(began).Seconds(), records-l.Accepted(), peak)
			if now := s.engine(); now != first {
				result += "; the engine was killed and started again"
				t.Log(strings.Join(s.since(0), "\n"))
			}
			t.Logf("note: %s: %s", name, result)
			line(t, name, result)
			s.must(s.pbx.Crashed())
		})
	}
}

// TestMemory_Full_EngineIsKilled guards the kernel's choice in a control group filled by other programs: the
// engine, not the PBX. The log names the limit, another engine is started, and every accepted record arrives.
func TestMemory_Full_EngineIsKilled(t *testing.T) {
	t.Parallel()
	const megabytes = 160
	s := newSite(t, setup{group: memoryGroup(t, megabytes<<20), load: ourModules})
	first, mark := s.engine(), s.lines()
	l := s.newLedger()
	s.expect(`start 0`, "kafka steady start producing %s %s 16 1000 1000", topic, l.Path)
	hog, err := os.CreateTemp("/dev/shm", "res-kafka-test-")
	s.must(err)
	t.Cleanup(func() { _ = os.Remove(hog.Name()); _ = hog.Close() })
	// The engine frees some megabytes only. Without room right after its end the kernel would kill Asterisk next.
	var dead atomic.Bool
	go func() {
		for ; s.pbx.EnginePID() == first; time.Sleep(time.Millisecond) {
		}
		dead.Store(true)
		_ = hog.Truncate(0)
	}()
	const script = `echo $$ >"$0"/cgroup.procs && exec dd if=/dev/zero of="$1" bs=64k count=$2 oflag=append conv=notrunc status=none`
	size, step := 0, 32
	s.wait("the group is full", func() bool {
		for range 20 {
			if dead.Load() {
				return true
			}
			if size += step << 16; size > (megabytes-80)<<20 {
				step = 4
			}
			_ = exec.Command("/bin/sh", "-c", script, s.group, hog.Name(), strconv.Itoa(step)).Run() // the kernel may kill the shell
		}
		return dead.Load()
	})
	s.must(hog.Truncate(0)) // a command under way may have written meanwhile
	s.wait("the log names the limit", func() bool {
		for _, l := range s.since(mark) {
			if regexp.MustCompile(`ERROR.*engine.*the kernel killed it for want of memory: memory\.\w+ of .* is 160 MB; raise it`).MatchString(l) {
				t.Log(l)
				return true
			}
		}
		return false
	})
	s.cli("kafka steady stop")
	s.engine()
	records := s.arrived(topic, l)
	t.Logf("%d accepted, %d refused, %d arrived", l.Accepted(), l.Refused(), records)
}

// memoryGroup makes a control group limited to bytes of memory.
func memoryGroup(t *testing.T, bytes int64) string {
	t.Helper()
	file := "memory.limit_in_bytes" // version 1
	if _, err := os.Stat("/sys/fs/cgroup/memory"); err != nil {
		file = "memory.max"
	}
	group := newGroup(t, "memory", file)
	if err := os.WriteFile(filepath.Join(group, file), []byte(strconv.FormatInt(bytes, 10)), 0); err != nil {
		t.Fatal(err)
	}
	return group
}

// peak returns the group's peak memory, page cache included.
func (s *site) peak() string {
	for _, name := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
		if text, err := os.ReadFile(filepath.Join(s.group, name)); err == nil {
			n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			return fmt.Sprintf("%d MB", n>>20)
		}
	}
	return "unknown"
}
