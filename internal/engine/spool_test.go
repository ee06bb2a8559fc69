package engine

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/metrics"
	"reskafka/internal/record"
)

// The two values of the option for records on disk.
const (
	overflowing = "durability = overflow"
	onDisk      = "durability = disk"
)

// counts fails unless a topic has the records of one key from 0 to n-1, each once and in order.
func (b *broker) counts(t *testing.T, topic string, n int) {
	t.Helper()
	for i, got := range b.consumed(t, topic, n) {
		if string(got.Value) != strconv.Itoa(i) {
			t.Fatalf("record %d of %s is %q", i, topic, got.Value)
		}
	}
}

// refusing answers every produce request with a code until accept is called.
func (b *broker) refusing(code int16) (accept func()) {
	over := make(chan struct{})
	b.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		select {
		case <-over:
			return nil, nil, false
		default:
		}
		b.KeepControl()
		asked := request.(*kmsg.ProduceRequest)
		answer := asked.ResponseKind().(*kmsg.ProduceResponse)
		for _, topic := range asked.Topics {
			said := kmsg.NewProduceResponseTopic()
			said.Topic, said.TopicID = topic.Topic, topic.TopicID
			for _, partition := range topic.Partitions {
				p := kmsg.NewProduceResponseTopicPartition()
				p.Partition, p.ErrorCode = partition.Partition, code
				said.Partitions = append(said.Partitions, p)
			}
			answer.Topics = append(answer.Topics, said)
		}
		return answer, nil, true
	})
	return func() { close(over) }
}

// acknowledged waits until a connection has nothing left.
func (r *rig) acknowledged(name string, n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d are acknowledged", n), func() bool { return r.status(name).Totals.Acknowledged == uint64(n) })
	if c := r.status(name).Totals; c.Accepted != uint64(n) {
		r.t.Errorf("account %+v", c)
	}
}

// spooled waits for n records of a connection on disk.
func (r *rig) spooled(name string, n int) {
	r.t.Helper()
	eventually(r.t, fmt.Sprintf("%d are on disk", n), func() bool { return r.status(name).Totals.Spooled == uint64(n) })
}

// TestStopKeeps verifies that a stop writes unsent records to disk, with a line in the log. The next engine
// sends all of them once, in order per key, before newer records, and without a request for the connection.
func TestStopKeeps(t *testing.T) {
	for _, durability := range []string{overflowing, onDisk} {
		for name, address := range map[string]string{"nobody there": refusedAddress(t), "silence": silentAddress(t)} {
			t.Run(durability+", "+name, func(t *testing.T) {
				dir := t.TempDir()
				first := startIn(t, newLines(), dir)
				first.configure(section("one", address, durability), section("idle", address, durability))
				s, idle := first.open("one"), first.open("idle")
				s.put(numbered("t", "k", 0, 1000)...)
				s.put(numbered("u", "k", 0, 1)...)
				began := time.Now()
				first.Stop(500 * time.Millisecond)
				if took := time.Since(began); took > time.Second+busy {
					t.Errorf("it took %v", took)
				}
				first.nothingAfter(t, s, idle)
				if s.HeldFrames.Load() != 0 || s.HeldCharge.Load() != 0 {
					t.Errorf("%d frames and %d bytes are held", s.HeldFrames.Load(), s.HeldCharge.Load())
				}
				where := filepath.Join(dir, "kafka", "one")
				first.log.want(t, 1, "notice: connection 'one': 1001 record(s) are kept in "+where+" until the next start")
				first.log.want(t, 0, "dropped")
				first.log.want(t, 0, "are kept", "idle")
				noGoroutines(t)

				b := newBroker(t, kfake.SeedTopics(1, "t", "u"))
				second := startIn(t, newLines(), dir)
				second.configure(section("idle", b.address(), durability), section("one", b.address(), durability))
				again := second.open("one")
				again.put(numbered("t", "k", 1000, 1100)...)
				second.acknowledged("one", 1101)
				if c := second.status("one").Totals; c.Restored != 1001 || c.Spooled != 0 {
					t.Errorf("account %+v", c)
				}
				second.Stop(patience)
				second.log.want(t, 1, "notice: connection 'one': 1001 record(s) that an earlier run left in "+where+" are being sent")
				second.log.want(t, 0, "error")
				second.log.want(t, 0, "are kept")
				b.counts(t, "t", 1100)
				b.counts(t, "u", 1)

				third := startIn(t, newLines(), dir)
				third.configure(section("one", b.address(), durability))
				third.Stop(patience)
				third.log.want(t, 0, "earlier run")
				b.counts(t, "t", 1100)
			})
		}
	}
}

// TestLeftIsSent verifies that records of an earlier run open their connection without a request, for any
// present durability.
func TestLeftIsSent(t *testing.T) {
	for _, durability := range []string{inMemory, overflowing, onDisk} {
		t.Run(durability, func(t *testing.T) {
			dir, nobody := t.TempDir(), refusedAddress(t)
			first := startIn(t, newLines(), dir)
			first.configure(section("one", nobody))
			first.open("one").put(numbered("t", "k", 0, 100)...)
			first.Stop(0)

			b := newBroker(t, kfake.SeedTopics(1, "t"))
			second := startIn(t, newLines(), dir)
			second.configure(section("one", b.address(), durability), section("idle", nobody))
			second.acknowledged("one", 100)
			b.counts(t, "t", 100)
			if second.byName["idle"].box() != nil {
				t.Error("a connection that nothing was left for was opened too")
			}
		})
	}
}

// TestLeftForNobody verifies one log line for a spool with an unknown connection. After the connection's
// return the records are sent.
func TestLeftForNobody(t *testing.T) {
	dir, nobody := t.TempDir(), refusedAddress(t)
	first := startIn(t, newLines(), dir)
	first.configure(section("gone", nobody))
	first.open("gone").put(numbered("t", "k", 0, 100)...)
	first.Stop(0)

	b := newBroker(t, kfake.SeedTopics(1, "t"))
	second := startIn(t, newLines(), dir)
	for range 3 {
		second.configure(section("one", b.address()))
	}
	second.log.want(t, 1, "warning: "+filepath.Join(dir, "kafka", "gone")+" holds records of connection 'gone', which kafka.conf does not have there")
	second.configure(section("one", b.address()), section("gone", b.address()))
	second.acknowledged("gone", 100)
	second.log.want(t, 1, "holds records of")
	b.counts(t, "t", 100)
}

// TestOverflow verifies a connection with the overflow on disk: records beyond a full queue and expired
// records go to disk. The stage frees the frames, and all records arrive in order at a later broker.
func TestOverflow(t *testing.T) {
	for name, test := range map[string]struct{ option, durability string }{
		"queue full":            {"queue_buffering_max_messages = 10", overflowing},
		"queue full of bytes":   {"queue_buffering_max_kbytes = 1", overflowing},
		"out of time":           {"message_timeout_ms = 1000", overflowing},
		"queue full, disk":      {"queue_buffering_max_messages = 10", onDisk},
		"out of time, disk":     {"message_timeout_ms = 1000", onDisk},
		"nothing special, disk": {"linger_ms = 5", onDisk},
	} {
		t.Run(name, func(t *testing.T) {
			r := start(t, newLines())
			conf := func(address string) string { return section("one", address, test.option, test.durability) }
			r.configure(conf(refusedAddress(t)))
			s := r.open("one")
			for i := range 10 {
				s.put(numbered("t", "k", i*500, (i+1)*500)...)
			}
			s.settled()
			r.spooled("one", 5000)
			if spool, ok := r.Spool("one"); !ok || spool.Numbers.Sum(metrics.RecordsSpooled) != 5000 || spool.State != "in use" ||
				spool.Numbers.Sum(metrics.SpoolBytes) == 0 {
				t.Errorf("spool %+v", spool)
			}
			b := newBroker(t, kfake.SeedTopics(1, "t"))
			r.configure(conf(b.address()))
			s.put(numbered("t", "k", 5000, 5100)...)
			r.acknowledged("one", 5100)
			b.counts(t, "t", 5100)
			r.log.want(t, 0, "error")
		})
	}
}

// TestDeadLetters verifies that a permanently refused record is stored and does not block later records, and
// that dead letters can be requeued or deleted.
func TestDeadLetters(t *testing.T) {
	for reason, code := range map[string]int16{"message too large": 10, "invalid record": 87} {
		for _, durability := range []string{overflowing, onDisk} {
			t.Run(reason+", "+durability, func(t *testing.T) {
				b := newBroker(t, kfake.SeedTopics(1, "t", "u"))
				accept := b.refusing(code)
				dir := t.TempDir()
				r := startIn(t, newLines(), dir)
				r.configure(section("one", b.address(), durability))
				s := r.open("one")
				s.put(numbered("t", "k", 0, 10)...)
				letters := func(n int) {
					t.Helper()
					eventually(t, "there are dead letters", func() bool { return r.onDisk("one").Sum(metrics.SpoolDeadLetters) == uint64(n) })
				}
				letters(10)
				s.settled()
				c := r.status("one").Totals
				if len(c.Dead) != 1 || c.GivenUp() != 10 || len(c.Dropped) != 0 || c.Spooled != 0 {
					t.Errorf("account %+v", c)
				}
				const line = "error: connection 'one': 1 record(s) for topic 't' became dead letters (kafka spool retry one sends them again), "
				eventually(t, "the log says so", func() bool { return len(r.log.with(line+slices.Collect(maps.Keys(c.Dead))[0])) == 1 }) // after the account does
				r.log.want(t, 0, "dropped")

				accept()
				s.put(numbered("u", "k", 0, 5)...)
				eventually(t, "what comes later is sent", func() bool { return r.status("one").Totals.Acknowledged == 5 })
				b.counts(t, "u", 5)
				if again, err := r.RetrySpool("one", ""); err != nil || again.Letters != 10 {
					t.Errorf("%+v, %v", again, err)
				}
				eventually(t, "they have been sent", func() bool { return r.status("one").Totals.Acknowledged == 15 })
				b.counts(t, "t", 10)
				letters(0)
				if c := r.status("one").Totals; c.Accepted != 15 || c.Restored != 0 || len(c.Dead) != 0 {
					t.Errorf("after the retry: account %+v", c)
				}

				accept = b.refusing(code)
				s.put(numbered("t", "k", 10, 17)...)
				letters(7)
				accept()
				r.Stop(patience) // the dead letters stay, and are not sent again
				b.counts(t, "t", 10)
				r = startIn(t, newLines(), dir)
				r.configure(section("one", b.address(), durability))
				r.open("one")
				letters(7)
				if c := r.status("one").Totals; c.Accepted != 7 || c.Restored != 7 || len(c.Dead) != 1 || c.GivenUp() != 7 {
					t.Errorf("after the restart: account %+v", c)
				}
				if gone, err := r.PurgeSpool("one", ""); err != nil || gone.Letters != 7 || gone.Records != 0 {
					t.Errorf("%+v, %v", gone, err)
				}
				letters(0)
				if c := r.status("one").Totals; len(c.Dead) != 0 || dropped(c, record.ReasonPurged) != 7 {
					t.Errorf("after the purge: account %+v", c)
				}
				b.counts(t, "t", 10)
			})
		}
	}
}

// TestPurge verifies that a purge deletes and counts all records on disk.
func TestPurge(t *testing.T) {
	r := start(t, newLines())
	r.configure(section("one", refusedAddress(t), onDisk))
	s := r.open("one")
	s.put(numbered("t", "k", 0, 1000)...)
	r.spooled("one", 1000)
	gone, err := r.PurgeSpool("one", "")
	if err != nil || gone.Records < 999 || gone.Bytes <= 0 { // the client may have a record
		t.Errorf("%+v, %v", gone, err)
	}
	if c := r.status("one").Totals; dropped(c, record.ReasonPurged) != gone.Records || c.Spooled != 0 {
		t.Errorf("account %+v", c)
	}
	r.Stop(0)
	r.log.want(t, 0, "are kept")
}

// TestReportsOfSpooled verifies the only report of a spooled record: at the end, with the outcome "on disk",
// for any lifetime of the record.
func TestReportsOfSpooled(t *testing.T) {
	for _, durability := range []string{overflowing, onDisk} {
		t.Run(durability, func(t *testing.T) {
			r := start(t, newLines())
			nobody := refusedAddress(t)
			r.configure(section("one", nobody, "message_timeout_ms = 1000", durability), section("two", nobody, durability))
			late, stopping := r.open("one"), r.open("two")
			reports := r.openReports()
			late.put(reported(reports, "t", 0, 20)...)
			r.spooled("one", 20)
			stopping.put(reported(reports, "t", 20, 40)...)
			r.Stop(0)
			for i, got := range take(t, reports, 40) {
				if want := (Report{uint64(i), "t", -1, -1, record.ErrSpooled}); got != want {
					t.Errorf("report %+v, want %+v", got, want)
				}
			}
			if next, ok := reports.Next(1, false); ok {
				t.Errorf("after the last: %v", next)
			}
		})
	}
}

// TestSpoolInUse verifies two engines with one directory. The second engine logs the first engine's process,
// continues in memory up to the queue's limit, and takes over the spool with all records after the first
// engine's end.
func TestSpoolInUse(t *testing.T) {
	dir, nobody := t.TempDir(), refusedAddress(t)
	first := startIn(t, newLines(), dir)
	first.configure(section("one", nobody, onDisk))
	first.open("one").put(numbered("t", "k", 0, 50)...)
	first.spooled("one", 50)

	second := startIn(t, newLines(), dir)
	conf := func(address string) string {
		return section("one", address, onDisk, "queue_buffering_max_messages = 1000")
	}
	second.configure(conf(nobody))
	s := second.open("one")
	s.put(numbered("t", "k", 50, 100)...)
	eventually(t, "the second has said so", func() bool {
		return len(second.log.with("error: connection 'one': the spool cannot be used, what it should keep waits in memory: opening the spool: ",
			filepath.Join(dir, "kafka", "one")+" is in use by this process")) == 1
	})
	if got := s.MaxFrames.Load(); got != 1000 {
		t.Errorf("the gate lets in %d", got)
	}
	if c := second.status("one").Totals; c.Spooled != 0 || c.Waiting+c.Sending != 50 {
		t.Errorf("account %+v", c)
	}
	if spool, _ := second.Spool("one"); spool.State == "in use" || spool.State == "unused" {
		t.Errorf("spool %+v", spool)
	}
	first.Stop(0)
	eventually(t, "what was left and what came is on disk, but for what the client has", func() bool {
		c := second.status("one").Totals
		return c.Spooled >= 99 && c.Accepted == 100 && c.Restored == 50
	})
	eventually(t, "the log says so", func() bool {
		return len(second.log.with("notice: connection 'one': the spool can be used again")) == 1
	})
	if got := s.MaxFrames.Load(); got != spooledFrames {
		t.Errorf("the gate lets in %d", got)
	}
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	second.configure(conf(b.address()))
	second.acknowledged("one", 100)
	s.settled()
	var order [2]int
	for _, got := range b.consumed(t, "t", 100) { // in order per engine: the two overlapped
		n, _ := strconv.Atoi(string(got.Value))
		if whose := n / 50; n%50 != order[whose] {
			t.Errorf("record %d of engine %d comes where %d is due", n%50, whose, order[whose])
		} else {
			order[whose]++
		}
	}
}

// TestSpoolInUseByAnother verifies that the log names the spool's process.
func TestSpoolInUseByAnother(t *testing.T) {
	dir := t.TempDir()
	spool := filepath.Join(dir, "kafka", "one")
	if err := os.MkdirAll(spool, 0o700); err != nil {
		t.Fatal(err)
	}
	lock, err := os.Create(filepath.Join(spool, "lock"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = lock.Close() }()
	if _, err := lock.WriteString("4711\n"); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Flock(int(lock.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		t.Fatal(err)
	}
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	r := startIn(t, newLines(), dir)
	r.configure(section("one", b.address()))
	r.open("one").put(numbered("t", "k", 0, 100)...)
	r.acknowledged("one", 100) // without a disk
	r.log.want(t, 1, "error: connection 'one': the spool cannot be used", spool+" is in use by process 4711")
	b.counts(t, "t", 100)
}

// TestCallRecordsOnDisk verifies that an event source's durable records are on disk even with durability =
// memory for the connection: the stop drops the other records.
func TestCallRecordsOnDisk(t *testing.T) {
	dir, nobody := t.TempDir(), refusedAddress(t)
	first := startIn(t, newLines(), dir)
	first.configure(section("one", nobody, inMemory, "flush_timeout_ms = 0"))
	s := first.open("one")
	if s.Shared.Load() != 0 {
		t.Error("records that may be lost are staged in shared memory")
	}
	source := first.openCDR(cdrConf, 0)
	if s.Shared.Load() != 1 {
		t.Error("call records are not staged in shared memory")
	}
	var calls []frametest.Frame
	for i := range 100 {
		calls = append(calls, frametest.Frame{Source: source, AcceptedNS: time.Now().UnixNano(), Fields: []frame.Field{
			frametest.Text("linkedid", "l.1"), frametest.Text("uniqueid", strconv.Itoa(i)),
		}})
	}
	s.put(slices.Concat(numbered("t", "k", 0, 50), calls, numbered("t", "k", 50, 100))...)
	first.spooled("one", 100)
	first.Stop(time.Second)
	first.log.want(t, 1, "error: connection 'one': 100 record(s) for topic 't' dropped, engine stopped")
	first.log.want(t, 1, "notice: connection 'one': 100 record(s) are kept in ")

	b := newBroker(t, kfake.SeedTopics(1, "t", "asterisk_cdr"))
	second := startIn(t, newLines(), dir)
	second.configure(section("one", b.address(), inMemory))
	second.acknowledged("one", 100)
	for i, got := range b.consumed(t, "asterisk_cdr", 100) {
		if o := object(t, got); o["uniqueid"] != strconv.Itoa(i) || string(got.Key) != "l.1" {
			t.Errorf("call %d is %v", i, o)
		}
	}
	b.consumed(t, "t", 0)
}
