package produce

import (
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/test/kafkatest"
)

// TestIdle_Renewed_RecordsAreNotInDoubt verifies idempotence: a record may be given up if a new connection
// comes before its request is written, but not if a broker may have the record.
func TestIdle_Renewed_RecordsAreNotInDoubt(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	c := kafkatest.Connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	log := kafkatest.NewLines()
	p, later := openEarly(t, c, log, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	cluster.Close()
	time.Sleep(client.LookAfter) // no connection is looked at before
	o := kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 1, 2), p.now().Add(time.Hour), o.Add)
	log.WaitFor(t, host.Warning, "cannot be reached") // by another connection
	later(2 * time.Hour)
	for r, err := range o.Wait() {
		if err == nil {
			t.Errorf("%s was delivered", r.Value)
		}
	}
}
