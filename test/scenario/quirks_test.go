package scenario

import (
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/test/pbx"
	"reskafka/test/port"
	"reskafka/test/wire"
)

// quirky is an Asterisk with an embedded, faulty broker for connection "one" in this process. Faults apply to
// the client id "tested", not to kcat and other clients.
type quirky struct {
	*world
	kafka *kfake.Cluster
	topic string
	sent  int
}

// newQuirky starts a broker with faults and a topic "t". With away set, Asterisk starts without a reachable
// broker.
func newQuirky(t *testing.T, partitions int32, away bool, conf string, faults ...wire.Fault) *quirky {
	t.Helper()
	watched := wire.New()
	for _, fault := range faults {
		watched.Disturb(wire.Of("tested", fault))
	}
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(partitions, "t"), kfake.GroupMinSessionTimeout(time.Second),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			l, err := net.Listen(network, address)
			if err != nil {
				return nil, err
			}
			return watched.Listen(l), nil
		}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	q := &quirky{kafka: cluster, topic: "t"}
	brokers := cluster.ListenAddrs()[0]
	if away {
		brokers = port.Refused(t)
	}
	q.world = newWorld(t, options{noBroker: true, files: map[string]string{"kafka.conf": quirkyConf(brokers, conf)}})
	q.address = cluster.ListenAddrs()[0]
	return q
}

func quirkyConf(brokers, conf string) string {
	return "[one]\ntype = connection\nclient_id = tested\nbrokers = " + brokers +
		"\nreconnect_backoff_ms = 20\nreconnect_backoff_max_ms = 200\n" + conf + "\n"
}

// put produces count numbered records of the given size with one key for each partition.
func (q *quirky) put(count, bytes int) {
	q.Helper()
	records := make([][2][]byte, count)
	for i := range records {
		records[i] = [2][]byte{fmt.Appendf(nil, "k%d", q.sent%16), fmt.Appendf(nil, "%0*d", bytes, q.sent)}
		q.sent++
	}
	q.expect(fmt.Sprintf(`accepted %d refused 0`, count), "kafka probe file one %s %s", q.topic, q.probeFile(records...))
}

// complete checks that all records are acknowledged and in the topic once, in order for each key.
func (q *quirky) complete() {
	q.Helper()
	q.acknowledged("one", q.sent)
	q.expect(`(?m)^\s*Dropped +0$`, "kafka show connection one")
	q.expect(`(?m)^\s*Dead letters +0$`, "kafka show connection one")
	last := map[string]string{}
	for _, r := range q.read(q.topic, q.sent) {
		key, value := text(r.Key), text(r.Payload)
		if value <= last[key] {
			q.Fatalf("record %s of key %s comes after %s", strings.TrimLeft(value, "0"), key, strings.TrimLeft(last[key], "0"))
		}
		last[key] = value
	}
}

// loud returns the lines of WARNING and ERROR about the connection without any of the texts.
func (q *quirky) loud(but ...string) (lines []string) {
	for _, line := range q.pbx.LogLines() {
		if strings.Contains(line, "connection one") && regexp.MustCompile(`WARNING|ERROR`).MatchString(line) &&
			!slices.ContainsFunc(but, func(p string) bool { return strings.Contains(line, p) }) {
			lines = append(lines, line)
		}
	}
	return lines
}

// TestRequestLimit_Backlog_AllDelivered checks finding A1 in a real Asterisk: a service closes the connection
// on requests over 1,046,528 bytes, and 10 MB wait in shared memory.
func TestRequestLimit_Backlog_AllDelivered(t *testing.T) {
	for _, partitions := range []int32{2, 8} {
		t.Run(fmt.Sprint(partitions), func(t *testing.T) {
			t.Parallel()
			var closed atomic.Int32
			limit := wire.Fault{Size: func(c *wire.Conn, size int) {
				if size > 1_046_528 {
					closed.Add(1)
					c.End(wire.FIN)
				}
			}}
			q := newQuirky(t, partitions, true, "", limit)
			for range 4 {
				q.put(5000, 500)
			}
			q.must(q.pbx.WriteFile("kafka.conf", quirkyConf(q.address, "")))
			q.cli("module reload res_kafka.so")
			q.complete()
			if closed.Load() > 2 {
				t.Errorf("%d connections were closed for a request's length", closed.Load())
			}
		})
	}
}

// TestRightTakenAway_Load_RecordsWaitInOrder checks finding A2 in a real Asterisk: records without the right
// to write wait in the stage or on disk. They are sent when the right is back.
func TestRightTakenAway_Load_RecordsWaitInOrder(t *testing.T) {
	for _, durability := range []string{"memory", "overflow", "disk"} {
		t.Run(durability, func(t *testing.T) {
			t.Parallel()
			q := newQuirky(t, 2, false, "spool_max_mbytes = 8\ndurability = "+durability)
			var refused atomic.Bool
			q.kafka.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
				q.kafka.KeepControl()
				if !refused.Load() {
					return nil, nil, false
				}
				return refusal(req.(*kmsg.ProduceRequest), kerr.TopicAuthorizationFailed.Code), nil, true
			})
			q.put(500, 300)
			refused.Store(true)
			mark := q.pbx.LogMark()
			for range 8 {
				q.put(1000, 300)
				time.Sleep(100 * time.Millisecond)
			}
			q.waitLog(mark, `ERROR.*not authorized to write to the topic`)
			refused.Store(false)
			q.put(500, 300)
			q.complete()
			q.waitLog(mark, `NOTICE.*topic t works again after`)
			if lines := q.loud("not authorized to write"); len(lines) > 0 {
				t.Errorf("lines: %q", lines)
			}
		})
	}
}

// refusal refuses a whole request.
func refusal(req *kmsg.ProduceRequest, code int16) *kmsg.ProduceResponse {
	answer := req.ResponseKind().(*kmsg.ProduceResponse)
	for _, t := range req.Topics {
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = t.Topic, t.TopicID
		for _, one := range t.Partitions {
			partition := kmsg.NewProduceResponseTopicPartition()
			partition.Partition, partition.ErrorCode = one.Partition, code
			topic.Partitions = append(topic.Partitions, partition)
		}
		answer.Topics = append(answer.Topics, topic)
	}
	return answer
}

// TestIdleConnection_EndsEachWay_NothingIsLogged checks finding A5 in a real Asterisk: the end of an idle
// connection costs neither a line nor a record, also after the engine has slept.
func TestIdleConnection_EndsEachWay_NothingIsLogged(t *testing.T) {
	for name, how := range map[string]wire.Ending{"FIN": wire.FIN, "RST": wire.RST, "silence": wire.Silence} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			limit, conf := 2*time.Second, "socket_timeout_ms = 60000"
			if how == wire.Silence {
				limit, conf = 3*time.Second, conf+"\nconnections_max_idle_ms = 1000"
			}
			q := newQuirky(t, 1, false, conf, wire.IdleLimit(limit, how))
			for round := range 3 {
				if round > 0 {
					time.Sleep(limit + time.Second)
				}
				begun := time.Now()
				q.put(1, 100)
				q.acknowledged("one", q.sent)
				if took := time.Since(begun); took > 20*time.Second { // a request into silence ends after 60
					t.Errorf("round %d: acknowledged after %v", round, took)
				}
			}
			q.complete()
			if lines := q.loud(); len(lines) > 0 {
				t.Errorf("lines: %q", lines)
			}
		})
	}
}

// TestUnreadableBatch_Skipped_GoesOn checks finding A6 in a real Asterisk: a batch with a flipped byte pauses
// its partition, and other partitions continue. The command in the log line skips the batch, also with a new
// engine.
func TestUnreadableBatch_Skipped_GoesOn(t *testing.T) {
	flipped := wire.Change(func(r *kmsg.FetchResponse) {
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				p := &r.Topics[i].Partitions[j]
				if p.Partition == 0 && len(p.RecordBatches) > 64 && binary.BigEndian.Uint64(p.RecordBatches) == 0 {
					p.RecordBatches[64] ^= 1
				}
			}
		}
	})
	q := newQuirky(t, 2, false, "group_id = g\nauto_offset_reset = earliest\nauto_commit_interval_ms = 200", flipped)
	produce := func(partition string, values ...string) {
		t.Helper()
		path := filepath.Join(q.dir, "values")
		q.must(os.WriteFile(path, []byte(strings.Join(values, "\n")+"\n"), 0o600))
		_, err := pbx.Kcat(q.ctx, q.root, "-P", "-b", q.address, "-t", "t", "-p", partition, "-l", path)
		q.must(err)
	}
	produce("0", "bad")
	produce("1", "one", "two")
	mark := q.pbx.LogMark()
	q.subscribe("t", 0)
	q.waitReceived("got", 2)
	q.waitLog(mark, `ERROR.*topic t partition 0: .*kafka consumer skip one topic t partition 0`)
	mark = q.pbx.LogMark()
	q.must(syscall.Kill(q.pbx.EnginePID(), syscall.SIGKILL))
	q.waitLog(mark, `ERROR.*topic t partition 0: .*kafka consumer skip one topic t partition 0`)
	produce("0", "three")
	q.until(`at offset 1\b`, "kafka consumer skip one topic t partition 0")
	q.wait("the record behind the batch has come", func() bool { return slices.Contains(payloads(q.received("got")), "three") })
}
