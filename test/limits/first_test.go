package limits

import (
	"testing"
	"time"
)

// TestDescriptors_FirstRecords_AreNotLost guards records written while the engine has no free descriptor for
// the file of durable slabs. Their ranges were left out: 1,224 of 2,424 records arrived.
func TestDescriptors_FirstRecords_AreNotLost(t *testing.T) {
	t.Parallel()
	s := newSite(t, setup{load: ourModules})
	pid := s.engine()
	s.until(`Message sent successfully`, "kafka test send connection producing topic first message x")
	s.expect(`ensure 0`, "kafka probe ensure producing %s 4 1 wait", topic)
	s.expect(`check 0`, "kafka flood check consuming %s 8 1000000 16", topic)
	descriptors.set(s, pid, 0)
	s.expect(`start 0`, "kafka flood start producing %s 8 1000000 16 4000 1000000", topic)
	s.expect(`completed 2`, "call probe s@calls 2")
	time.Sleep(acting)
	descriptors.lift(s, pid)
	s.expect(`completed 2`, "call probe s@calls 2")
	time.Sleep(acting)
	s.cli("kafka flood stop")
	s.allCome()
	s.until(`asterisk_cdr +4 +4 +0`, "kafka show connection producing") // one per call
	if now := s.engine(); now != pid {
		t.Errorf("engine %d was replaced by %d", pid, now)
	}
}
