package kafka

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/host"
)

// TestIdle_Renewed_RecordsAreNotInDoubt guards idempotence: a record whose request was not written because its connection is
// renewed may be given up. One that a broker may have may not.
func TestIdle_Renewed_RecordsAreNotInDoubt(t *testing.T) {
	cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
	c := connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	log := newLines()
	p, later := openEarly(t, c, log, nil)
	sendAll(t, p, numbered("t", 0, 1)...)
	cluster.Close()
	time.Sleep(lookAfter) // no connection is looked at before
	o := expectOutcomes(t, 1)
	p.Send(numbered("t", 1, 2), p.now().Add(time.Hour), o.add)
	log.waitFor(t, host.Warning, "cannot be reached") // by another connection
	later(2 * time.Hour)
	for r, err := range o.wait() {
		if err == nil {
			t.Errorf("%s was delivered", r.Value)
		}
	}
}
