package limits

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"reskafka/test/port"
)

// TestMemory_OutageUnderLoad_NothingLost guards the promise that a control group without memory never takes
// the PBX: 256 MB or less for Asterisk and the engine, and no broker while records of 3 kB come. If the
// kernel kills something, it is the engine. Every accepted record arrives.
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
			path := filepath.Join(s.dir, "ledger")
			s.newLedger(path)
			s.expect(`start 0`, "kafka steady start producing %s %s 16 %d %d", topic, path, bytes, r.rate)
			s.wait("the load is through", func() bool { return s.readLedger(path).begun >= r.records })
			s.cli("kafka steady stop")
			peak := s.peak()
			s.startBroker()
			s.must(s.pbx.WriteFile("kafka.conf", fmt.Sprintf(conf, s.broker.Address)))
			began := time.Now()
			s.cli("module reload res_kafka.so")
			l := s.readLedger(path)
			records := s.arrived(topic, l)
			result := fmt.Sprintf("%d accepted, %d refused, all accepted ones arrived within %.0f s, %d twice; peak %s", l.accepted, l.refused,
				time.Since(began).Seconds(), records-l.accepted, peak)
			if now := s.engine(); now != first {
				result += "; the engine was killed and started again"
			}
			t.Logf("note: %s: %s", name, result)
			line(t, name, result)
			s.must(s.pbx.Crashed())
		})
	}
}

// memoryGroup makes a control group that may have so much memory.
func memoryGroup(t *testing.T, bytes int64) string {
	t.Helper()
	group, err := makeGroup("memory")
	if err == nil {
		t.Cleanup(func() { _ = os.Remove(group) })
		file := filepath.Join(group, "memory.limit_in_bytes")
		if _, missing := os.Stat(file); errors.Is(missing, fs.ErrNotExist) {
			file = filepath.Join(group, "memory.max")
			_, err = os.Stat(file)
		}
		if err == nil {
			err = os.WriteFile(file, []byte(strconv.FormatInt(bytes, 10)), 0)
		}
	}
	if err != nil {
		t.Skip("SKIPPED: no memory cgroup can be made here: ", err)
	}
	return group
}

// peak returns the most memory that the group has used, page cache included.
func (s *site) peak() string {
	for _, name := range []string{"memory.max_usage_in_bytes", "memory.peak"} {
		if text, err := os.ReadFile(filepath.Join(s.group, name)); err == nil {
			n, _ := strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
			return fmt.Sprintf("%d MB", n>>20)
		}
	}
	return "unknown"
}
