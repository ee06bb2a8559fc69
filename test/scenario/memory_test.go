package scenario

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"reskafka/test/pbx"
	"reskafka/test/port"
)

// newMemoryGroup makes a control group that may have so much memory, and gives its folder. The test is skipped where that
// cannot be done.
func newMemoryGroup(t *testing.T, bytes int64) string {
	t.Helper()
	skip := func(why any) { t.Skip("SKIPPED: no memory cgroup can be made here: ", why) }
	own, err := os.ReadFile("/proc/self/cgroup")
	if err != nil {
		skip(err)
	}
	base, file := "", ""
	for lines := bufio.NewScanner(strings.NewReader(string(own))); lines.Scan(); {
		fields := strings.SplitN(lines.Text(), ":", 3)
		switch {
		case len(fields) < 3:
		case fields[1] == "memory":
			base, file = filepath.Join("/sys/fs/cgroup/memory", fields[2]), "memory.limit_in_bytes"
		case fields[0] == "0" && base == "":
			base, file = filepath.Join("/sys/fs/cgroup", fields[2]), "memory.max"
		}
	}
	group, err := os.MkdirTemp(base, "res-kafka-test-")
	if err != nil {
		skip(err)
	}
	t.Cleanup(func() { _ = os.Remove(group) })
	if err := os.WriteFile(filepath.Join(group, file), []byte(strconv.FormatInt(bytes, 10)), 0); err != nil {
		skip(err)
	}
	return group
}

// TestMemoryGroup_OutageUnderLoad_NotKilled floods an Asterisk whose control group has 256 MB while no broker is there. The
// kernel killed the PBX with the default options, whatever the durability.
func TestMemoryGroup_OutageUnderLoad_NotKilled(t *testing.T) {
	rate, seconds := 8000, 6
	if os.Getenv("RES_KAFKA_LONG") != "" {
		rate, seconds = 4000, 20
	}
	durabilities := []string{"memory", "disk"}
	if os.Getenv("RES_KAFKA_LONG") != "" {
		durabilities = append(durabilities, "overflow")
	}
	for _, durability := range durabilities {
		t.Run(durability, func(t *testing.T) {
			t.Parallel()
			conf := "[one]\ntype = connection\nbrokers = %s\nmessage_timeout_ms = 3600000\ndurability = " + durability + "\n"
			w := newWorld(t, options{parts: 1, modules: []string{"res_kafka", "kafka_probe"}, group: newMemoryGroup(t, 256<<20), files: map[string]string{
				"kafka.conf": fmt.Sprintf(conf, port.Refused(t)),
			}})
			printed := w.cli("kafka probe rate one %s 3000 %d %d 4", w.name("t"), rate, seconds)
			m := regexp.MustCompile(`calls (\d+) refused (\d+)`).FindStringSubmatch(printed)
			if m == nil {
				t.Fatal(printed)
			}
			calls, _ := strconv.Atoi(m[1])
			refused, _ := strconv.Atoi(m[2])
			accepted := calls - refused
			t.Logf("note: %s: %d accepted, %d refused within 256 MB", durability, accepted, refused)
			// A disk that is slower than the load is a reason to refuse; on a quiet machine it is not.
			w.must(w.pbx.WriteFile("kafka.conf", w.filled(fmt.Sprintf(conf, "%BROKER%"))))
			w.cli("module reload res_kafka.so")
			w.acknowledged("one", accepted)
			w.must(w.pbx.Stop(pbx.Now))
		})
	}
}
