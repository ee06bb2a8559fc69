package apache

import (
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	kafka "reskafka/internal/kafka/consume"
	"reskafka/test/world"
)

// TestDamagedLog_Consumer_PausesPartition flips a bit of the first batch in a partition's log while the node
// is down. Apache Kafka returns the batch unchanged. Only this partition pauses, the log has the command to
// skip the batch, and consumption continues behind it.
func TestDamagedLog_Consumer_PausesPartition(t *testing.T) {
	eachVersion(t, func(t *testing.T, folder string) {
		c := start(t, Config{Kafka: folder})
		writer := client(t, c.Brokers(Plaintext.Name), kgo.RecordPartitioner(kgo.ManualPartitioner()), kgo.ProducerLinger(100*time.Millisecond))
		if _, err := kadm.NewClient(writer).CreateTopic(testContext(t), 3, 1, nil, "test"); err != nil {
			t.Fatal(err)
		}
		for range 2 { // two batches in each partition
			var records []*kgo.Record
			for i := range 30 {
				records = append(records, &kgo.Record{Partition: int32(i % 3), Value: fmt.Append(nil, i)})
			}
			if err := writer.ProduceSync(testContext(t), records...).FirstErr(); err != nil {
				t.Fatal(err)
			}
		}
		if err := c.Stop(testContext(t), 1); err != nil {
			t.Fatal(err)
		}
		flipBit(t, filepath.Join(c.node(1).data(), "test-0", "00000000000000000000.log"), 64)
		if err := c.Restart(testContext(t), 1); err != nil {
			t.Fatal(err)
		}
		w := world.New(t, "test", t.TempDir(), time.Minute)
		if err := w.Configure("[tested]\ntype = connection\nbrokers = " + c.Brokers(Plaintext.Name) +
			"\ngroup_id = tested\nauto_offset_reset = earliest\n"); err != nil {
			t.Fatal(err)
		}
		received := make(chan kafka.Message, 1000)
		if _, err := w.Subscribe("tested", func(m kafka.Message) { received <- m }); err != nil {
			t.Fatal(err)
		}
		receive := func(n int, expected func(kafka.Message) bool) {
			t.Helper()
			for range n {
				if m, err := world.Await(w, received); err != nil || !expected(m) {
					t.Fatalf("partition %d offset %d: %v", m.Partition, m.Offset, err)
				}
			}
		}
		receive(40, func(m kafka.Message) bool { return m.Partition != 0 })
		if _, err := w.Log.Await(w.Ctx, "topic test partition 0: the batch of offsets 0 to 9 cannot be read: encoded crc"); err != nil {
			t.Fatal(err)
		}
		if to, err := w.Engine.SkipBatch("tested", "test", 0); err != nil || to != 10 {
			t.Fatalf("skipped to %d: %v", to, err)
		}
		receive(10, func(m kafka.Message) bool { return m.Partition == 0 && m.Offset >= 10 })
	})
}

// flipBit changes a bit of the byte of a file at an offset.
func flipBit(t *testing.T, path string, at int64) {
	t.Helper()
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer file.Close()
	b := make([]byte, 1)
	if _, err := file.ReadAt(b, at); err != nil {
		t.Fatal(err)
	}
	b[0] ^= 1
	if _, err := file.WriteAt(b, at); err != nil {
		t.Fatal(err)
	}
}
