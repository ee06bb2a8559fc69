package scenario

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"hash/crc32"
	"math"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/klauspost/compress/zstd"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
	"reskafka/test/kafkatest"
	"reskafka/test/wire"
)

// lifted are the edits that remove the limits of internal/kafka from an engine. The product has no switch for
// this, so the tests compile changed copies of these files. Each old text occurs in its file exactly once.
var lifted = []struct{ file, old, new string }{
	{"internal/kafka/client/response_check.go", "func (c *responseCheck) feed(p []byte) error {\n",
		"func (c *responseCheck) feed(p []byte) error {\n\tif c.unchecked = true; c.unchecked {\n\t\tc.left -= len(p)\n\t\treturn nil\n\t}\n"},
	{"internal/kafka/client/response_conn.go", "if limit > 0 && size > limit &&", "if limit < 0 && size > limit &&"},
	{"internal/kafka/client/batch_budget.go", "= 48 << 20", "= 1 << 40"},
	{"internal/kafka/client/scram.go", "maxRounds = 1_000_000", "maxRounds = 1 << 40"},
	{"internal/kafka/consume/unpack.go", "decompressedBudget = 96 << 20", "decompressedBudget = 1 << 50"},
	{"internal/kafka/consume/unpack.go", "append(make([]byte, 0, d.batch+1), space...)[:d.batch+1]", "append(space, make([]byte, len(space))...)"},
	// The test machine needs its memory for other programs too.
	{"cmd/reskafka/engine.go", `setUpProcess(memlimit.Read("").Bytes)`, `setUpProcess(min(memlimit.Read("").Bytes, 1<<30))`},
}

// buildUnlimited compiles an engine without limits, once, and returns its path.
var buildUnlimited = sync.OnceValues(func() (string, error) {
	dir := filepath.Join(os.Getenv("RES_KAFKA_BUILD"), "unlimited")
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return "", err
	}
	changed := map[string]string{}
	for i, edit := range lifted {
		path, err := filepath.Abs(filepath.Join("../..", edit.file))
		if err != nil {
			return "", err
		}
		source := path
		if earlier := changed[path]; earlier != "" {
			source = earlier
		}
		text, err := os.ReadFile(source)
		if err != nil {
			return "", err
		}
		if n := strings.Count(string(text), edit.old); n != 1 {
			return "", fmt.Errorf("%s has %q %d times, want once: it is to be lifted", edit.file, edit.old, n)
		}
		changed[path] = filepath.Join(dir, fmt.Sprintf("%d.source", i))
		if err := os.WriteFile(changed[path], []byte(strings.Replace(string(text), edit.old, edit.new, 1)), 0o600); err != nil {
			return "", err
		}
	}
	overlay, err := json.Marshal(map[string]any{"Replace": changed})
	if err != nil {
		return "", err
	}
	if err := os.WriteFile(filepath.Join(dir, "overlay.json"), overlay, 0o600); err != nil {
		return "", err
	}
	header, err := os.ReadFile(filepath.Join(os.Getenv("RES_KAFKA_BUILD"), "obj", "build.h"))
	if err != nil {
		return "", err
	}
	id := regexp.MustCompile(`"(.*)"`).FindSubmatch(header)
	program := filepath.Join(dir, "reskafka")
	build := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-overlay", filepath.Join(dir, "overlay.json"),
		"-ldflags", "-X reskafka/internal/boundary.Build="+string(id[1]), "-o", program, "../../cmd/reskafka")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("building an engine without limits: %w\n%s", err, out)
	}
	return program, nil
})

// outrage is a broker's attack on an engine without limits.
type outrage struct {
	name, finding string
	fault         wire.Fault
	conf          string      // of the connection "evil"
	kafka         []kfake.Opt // options of the broker
	dies          string      // log line of the engine's end; empty = may live
}

// emptyBomb is a zstd batch of a few kB, and of 900 MiB when decompressed.
var emptyBomb = sync.OnceValue(func() []byte {
	const size = 900 << 20
	var out bytes.Buffer
	w, err := zstd.NewWriter(&out, zstd.WithWindowSize(64<<10), zstd.WithEncoderConcurrency(1))
	if err != nil {
		panic(err)
	}
	value := append([]byte{0, 0, 0, 1}, binary.AppendVarint(nil, size)...)
	_, _ = w.Write(append(binary.AppendVarint(nil, int64(len(value))+size+1), value...))
	nothing := make([]byte, 1<<20)
	for range size >> 20 {
		_, _ = w.Write(nothing)
	}
	_, _ = w.Write([]byte{0})
	_ = w.Close()
	return out.Bytes()
})

// batchOf returns a record batch with these bytes as records.
func batchOf(codec, count int, records []byte) []byte {
	b := kmsg.RecordBatch{
		Magic: 2, PartitionLeaderEpoch: -1, Attributes: int16(codec), LastOffsetDelta: int32(count) - 1, ProducerID: -1, ProducerEpoch: -1,
		FirstSequence: -1, NumRecords: int32(count), Records: records,
	}
	b.Length = int32(client.BatchHeaderBytes - 12 + len(records))
	data := b.AppendTo(nil)
	binary.BigEndian.PutUint32(data[client.BatchCRCAt:], crc32.Checksum(data[client.BatchCRCAt+4:], client.Castagnoli))
	return data
}

// fetched replaces the batches of each non-empty fetch.
func fetched(batch func(was []byte) []byte) wire.Fault {
	return wire.Change(func(r *kmsg.FetchResponse) {
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				if p := &r.Topics[i].Partitions[j]; len(p.RecordBatches) > 0 {
					p.RecordBatches = batch(p.RecordBatches)
				}
			}
		}
	})
}

var outrages = []outrage{
	{
		name: "batches of 900 MiB", finding: "C1", dies: "out of memory",
		fault: fetched(func([]byte) []byte { return batchOf(int(kgo.CodecZstd), 1, emptyBomb()) }),
	},
	{
		name: "a batch of 2^31-1 records", finding: "C2", // bounded by the client library by now
		fault: fetched(func(was []byte) []byte {
			b := slices.Clone(was)
			binary.BigEndian.PutUint32(b[23:], math.MaxInt32-1)
			binary.BigEndian.PutUint32(b[57:], math.MaxInt32)
			binary.BigEndian.PutUint32(b[client.BatchCRCAt:], crc32.Checksum(b[client.BatchCRCAt+4:], client.Castagnoli))
			return b
		}),
	},
	{
		name: "metadata of 95 MiB", finding: "C2", dies: "out of memory",
		fault: wire.Key(kmsg.Metadata, wire.Fault{Answer: func(c *wire.Conn, to wire.Header, answer []byte) []byte {
			return wire.Rewrite(kmsg.Metadata, func(wire.Header, []byte) []byte {
				response := kmsg.NewPtrMetadataResponse()
				response.SetVersion(to.Version)
				topic := kmsg.NewMetadataResponseTopic()
				topic.Topic = kmsg.StringPtr("all")
				topic.Partitions = make([]kmsg.MetadataResponseTopicPartition, 95<<20/20)
				response.Topics = append(response.Topics, topic)
				return wire.Encode(response)
			}).Answer(c, to, answer)
		}}),
	},
	{
		name: "a record at offset 2^63-1", finding: "C3", // a nil pointer ends the engine in most runs, by the order of fetches
		fault: fetched(func(was []byte) []byte {
			b := slices.Clone(was)
			binary.BigEndian.PutUint64(b, math.MaxInt64)
			return b
		}),
	},
	{
		name: "a throttle time of 24 days", finding: "C4",
		fault: wire.Change(func(r *kmsg.ProduceResponse) { r.ThrottleMillis = math.MaxInt32 }),
	},
	{
		name: "2^32-1 tagged fields", finding: "C5",
		fault: wire.Key(kmsg.FindCoordinator, wire.Rewrite(kmsg.FindCoordinator, func(wire.Header, []byte) []byte {
			return append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, make([]byte, 15)...)
		})),
	},
	{
		name: "a login of 2^32 rounds", finding: "C5",
		conf:  "security_protocol = sasl_plaintext\nsasl_mechanisms = SCRAM-SHA-256\nsasl_username = u\nsasl_password = p\n",
		kafka: []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("SCRAM-SHA-256", "u", "p")},
		fault: wire.Change(func(r *kmsg.SASLAuthenticateResponse) {
			r.SASLAuthBytes = regexp.MustCompile(`i=\d+`).ReplaceAll(r.SASLAuthBytes, []byte("i=4294967296"))
		}),
	},
}

// evil starts a broker and returns its address. The broker commits an outrage while on is true.
func (w *world) evil(o outrage, on *atomic.Bool) string {
	w.Helper()
	watched := wire.New()
	watched.Disturb(wire.While(func(h wire.Header) bool { return on.Load() && h.Client == "evil" }, o.fault))
	cluster, err := kfake.NewCluster(append(o.kafka, kfake.NumBrokers(1), kfake.SeedTopics(1, "evil"), kfake.GroupMinSessionTimeout(time.Second),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			l, err := net.Listen(network, address)
			if err != nil {
				return nil, err
			}
			return watched.Listen(l), nil
		}))...)
	w.must(err)
	w.Cleanup(cluster.Close)
	return cluster.ListenAddrs()[0]
}

// outrageDuration is how long a broker is evil.
func outrageDuration() time.Duration {
	if os.Getenv("RES_KAFKA_LONG") != "" {
		return 2 * time.Minute
	}
	return 6 * time.Second
}

// TestEngine_WithoutLimits_AsteriskUnharmed guards the promise of the engine's own process with brokers that
// once ended Asterisk. Without a limit of its own, the engine may die or hang, and calls are unharmed.
func TestEngine_WithoutLimits_AsteriskUnharmed(t *testing.T) {
	for _, o := range outrages {
		t.Run(o.finding+" "+o.name, func(t *testing.T) {
			t.Parallel()
			program, err := buildUnlimited()
			if err != nil {
				t.Fatal(err)
			}
			var on atomic.Bool
			w := newWorld(t, options{unbooted: true, modules: []string{"res_kafka", "cdr_kafka", "kafka_probe", "call_probe"}, files: map[string]string{
				"cdr_kafka.conf":  "[global]\nconnection = one\nloguniqueid = yes\n",
				"extensions.conf": "[calls]\nexten => s,1,Answer()\n same => n,Echo()\n",
			}})
			w.must(w.pbx.WriteFile("kafka.conf", w.filled(fmt.Sprintf("[one]\ntype = connection\nbrokers = %%BROKER%%\ndurability = disk\n"+
				"[evil]\ntype = connection\nbrokers = %s\nclient_id = evil\ngroup_id = evil\nauto_offset_reset = earliest\nsession_timeout_ms = 6000\n%s", w.evil(o, &on), o.conf))))
			folder := filepath.Join(w.pbx.Dir(), "modules", "res_kafka")
			w.must(os.Remove(folder)) // a link
			w.must(os.Mkdir(folder, 0o755))
			engine, err := os.ReadFile(program)
			w.must(err)
			w.must(os.WriteFile(filepath.Join(folder, "reskafka"), engine, 0o755)) // at this test's path, see replaceEngine
			w.boot()
			w.endure(o, &on)
		})
	}
}

// endure has calls go on while a broker is evil.
func (w *world) endure(o outrage, on *atomic.Bool) {
	w.Helper()
	pid, mark := w.pbx.PID(), w.pbx.LogMark()
	seconds := int(outrageDuration() / time.Second)
	on.Store(true)
	if printed := w.cli("kafka probe subscribe evil evil %s 0", filepath.Join(w.dir, "received")); !strings.Contains(printed, "subscribe 0") {
		w.Fatal(printed)
	}
	_ = w.cli("kafka probe rate evil evil 300 50 %d 1", min(seconds, 2))
	calls, worst := 0, time.Duration(0)
	for ended := time.Now().Add(outrageDuration()); time.Now().Before(ended); {
		m := regexp.MustCompile(`calls (\d+)\nfailed (\d+)`).FindStringSubmatch(w.cli("call load s@calls/n 4 20 2"))
		if m == nil || m[2] != "0" {
			w.Fatalf("calls: %v", m)
		}
		n, _ := strconv.Atoi(m[1])
		calls += n
		started := time.Now()
		w.expect(`System uptime`, "core show uptime")
		worst = max(worst, time.Since(started))
	}
	if o.dies != "" {
		w.waitLog(mark, `ERROR.*The Kafka engine \(pid \d+\).*`+o.dies+`.*\(trace: .*\); another one is started in \d+ ms`)
	}
	status := strings.Join(regexp.MustCompile(`(Processor time|Restarts): +[\d.]+`).FindAllString(w.cli("kafka show status"), -1), ", ")
	on.Store(false)
	w.must(w.pbx.Crashed())
	w.replaceEngine(filepath.Join(w.pbx.Dir(), "modules", "res_kafka", "reskafka"))
	w.until(`Message sent successfully`, "kafka test send connection evil topic evil message after")
	if w.pbx.PID() != pid {
		w.Errorf("Asterisk was process %d and is %d", pid, w.pbx.PID())
	}
	w.Logf("note: %s %s: %d calls, none failed; the slowest console command took %v; engine: %s", o.finding, o.name, calls, worst, status)
	c, err := kgo.NewClient(kgo.SeedBrokers(w.address))
	w.must(err)
	defer c.Close()
	w.wait("a record of each call", func() bool {
		found, err := kafkatest.Calls(w.ctx, c, "asterisk_cdr")
		return err == nil && len(found) == calls
	})
}
