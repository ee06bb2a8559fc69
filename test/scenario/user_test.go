package scenario

import (
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"

	"reskafka/test/port"
)

// TestChangeOfUser_StagedRecords_AllDelivered kills an Asterisk of root with a full spool, and starts
// Asterisk as another user with ownership of the files. The records in shared memory stayed there without a
// word, and were not found after a chown.
func TestChangeOfUser_StagedRecords_AllDelivered(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can become another user")
	}
	const count, user = 6000, 12345
	conf := "[one]\ntype = connection\nbrokers = %s\ndurability = disk\nmessage_timeout_ms = 3600000\nspool_max_mbytes = 1\n"
	w := newWorld(t, options{parts: 1, files: map[string]string{"kafka.conf": fmt.Sprintf(conf, port.Refused(t))}})
	topic, killed := w.name("t"), w.engine()
	records := make([][2][]byte, count)
	for i := range records {
		records[i] = [2][]byte{[]byte("k"), fmt.Appendf(nil, "%01000d", i)}
	}
	w.expect(fmt.Sprintf(`accepted %d refused 0`, count), "kafka probe file one %s %s", topic, w.probeFile(records...))
	w.until(`Spooled:? +[1-9]`, "kafka show connection one")
	w.wait("the spool is full and the rest is staged", func() bool {
		return strings.Contains(w.cli("kafka show spool"), "full") && w.staged(killed) > 0
	})
	w.killBoth()
	if staged := w.staged(killed); staged == 0 {
		t.Fatal("nothing is staged")
	}

	w.must(w.pbx.WriteFile("kafka.conf", w.filled(fmt.Sprintf(conf, "%BROKER%"))))
	w.must(os.Chmod(w.dir, 0o711))
	w.must(w.pbx.RunAs(user))
	mark := w.pbx.LogMark()
	w.boot()
	line := w.waitLog(mark, `WARNING.*may hold records that an earlier run staged, but belongs to user root \(0\)`)
	command := regexp.MustCompile(`chown -R 12345 /dev/shm/\S+[A-Z2-7]`).FindString(line)
	if command == "" {
		t.Fatalf("no command in %s", line)
	}
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatal(err, string(out))
	}
	w.cli("module reload res_kafka.so")
	seen := map[string]bool{}
	for _, r := range w.read(topic, count) {
		seen[text(r.Payload)] = true
	}
	if len(seen) != count {
		t.Errorf("%d of %d records were delivered", len(seen), count)
	}
	w.wait("what the killed run left is removed", func() bool { return len(w.runs(killed)) == 0 })
}
