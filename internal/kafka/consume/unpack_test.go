package consume

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"
	"math"
	"os"
	"os/exec"
	"regexp"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/klauspost/compress/gzip"
	"github.com/klauspost/compress/s2"
	"github.com/klauspost/compress/zstd"
	"github.com/pierrec/lz4/v4"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/metrics"
	"reskafka/test/kafkatest"
)

// zeros returns a reader of n zeros.
func zeros(n int64) io.Reader { return io.LimitReader(zeroReader{}, n) }

type zeroReader struct{}

func (zeroReader) Read(p []byte) (int, error) {
	clear(p)
	return len(p), nil
}

// packed compresses data with a codec.
func packed(t testing.TB, codec kgo.CompressionCodecType, data io.Reader) []byte {
	t.Helper()
	var out bytes.Buffer
	var w io.WriteCloser
	var err error
	switch codec {
	case kgo.CodecGzip:
		w = gzip.NewWriter(&out)
	case kgo.CodecLz4:
		w = lz4.NewWriter(&out)
	case kgo.CodecZstd:
		w, err = zstd.NewWriter(&out, zstd.WithWindowSize(64<<10), zstd.WithEncoderConcurrency(1))
	case kgo.CodecSnappy: // all at once
		all, err := io.ReadAll(data)
		if err != nil {
			t.Fatal(err)
		}
		return s2.EncodeSnappy(nil, all)
	}
	if err == nil {
		_, err = io.Copy(w, data)
	}
	if err == nil {
		err = w.Close()
	}
	if err != nil {
		t.Fatal(err)
	}
	return out.Bytes()
}

// xerial frames data as Java's snappy streams are framed.
func xerial(data []byte) []byte {
	out := append(append([]byte{}, xerialMagic...), 0, 0, 0, 1, 0, 0, 0, 1)
	for len(data) > 0 {
		n := min(len(data), 32<<10)
		block := s2.EncodeSnappy(nil, data[:n])
		out, data = append(binary.BigEndian.AppendUint32(out, uint32(len(block))), block...), data[n:]
	}
	return out
}

// records is n records of a batch, with values of size bytes.
func records(n, size int) []byte {
	var out []byte
	for i := range n {
		var body []byte
		body = append(body, 0, 0) // attributes, time
		body = binary.AppendVarint(body, int64(i))
		body = append(body, 1) // no key
		body = binary.AppendVarint(body, int64(size))
		body = append(append(body, make([]byte, size)...), 0) // no headers
		out = append(binary.AppendVarint(out, int64(len(body))), body...)
	}
	return out
}

var codecs = map[string]kgo.CompressionCodecType{
	"gzip": kgo.CodecGzip, "snappy": kgo.CodecSnappy, "lz4": kgo.CodecLz4, "zstd": kgo.CodecZstd,
}

// TestDecompressor_Budgets checks for each codec that a batch within its budget is returned unchanged, that a
// larger batch is refused, and that a bomb is refused without an allocation of its size.
func TestDecompressor_Budgets(t *testing.T) {
	fits := records(20000, 300)
	for name, codec := range codecs {
		d := newDecompressor(kafkatest.Connection(), &memoryBudget{limit: 1 << 30})
		for form, src := range map[string][]byte{"": packed(t, codec, bytes.NewReader(fits)), "framed": xerial(fits)} {
			if form != "" && codec != kgo.CodecSnappy {
				continue
			}
			out, err := d.Decompress(src, codec)
			if err != nil || !bytes.Equal(out, fits) {
				t.Errorf("%s %s: %d bytes, %v", name, form, len(out), err)
			}
			if _, err := d.Decompress(src[:len(src)/2], codec); err == nil || errors.Is(err, kgo.ErrMaxDecompress) {
				t.Errorf("%s %s, cut off: %v", name, form, err)
			}
		}
		large := packed(t, codec, zeros(100<<20))
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		if _, err := d.Decompress(large, codec); !errors.Is(err, kgo.ErrMaxDecompress) {
			t.Errorf("%s bomb: %v", name, err)
		}
		runtime.ReadMemStats(&after)
		if used := after.TotalAlloc - before.TotalAlloc; used > 200<<20 { // a buffer doubled up to the budget
			t.Errorf("%s bomb: %d MiB allocated", name, used>>20)
		}
		if codec == kgo.CodecSnappy {
			if _, err := d.Decompress(xerial(make([]byte, 60<<20)), codec); !errors.Is(err, kgo.ErrMaxDecompress) {
				t.Errorf("framed snappy bomb: %v", err)
			}
			claims := xerial(nil) // the sum of the claimed sizes overflows an int of 32 bits
			for _, size := range []uint64{1 << 20, math.MaxInt32} {
				block := binary.AppendUvarint(nil, size)
				claims = append(binary.BigEndian.AppendUint32(claims, uint32(len(block))), block...)
			}
			if _, err := d.Decompress(claims, codec); !errors.Is(err, kgo.ErrMaxDecompress) {
				t.Errorf("framed snappy claims: %v", err)
			}
		}
		// Records cost more than their bytes.
		if _, err := d.Decompress(packed(t, codec, bytes.NewReader(records(300000, 1))), codec); !errors.Is(err, kgo.ErrMaxDecompress) {
			t.Errorf("%s, many small records: %v", name, err)
		}
	}
	if _, err := newDecompressor(kafkatest.Connection(), decompressed).Decompress([]byte{1}, 5); err == nil {
		t.Error("an unknown codec was accepted")
	}
}

// TestRecordsCost checks that records and headers are counted, and that damaged data costs at least as much.
func TestRecordsCost(t *testing.T) {
	claims := []byte{2 * 8, 0, 0, 0, 1, 1, 2 * 2, 0, 0} // a record without key and value, with a claim of two headers
	for _, one := range []struct {
		data []byte
		want int64
	}{
		{records(3, 10), 3 * client.RecordCost},
		{append(records(1, 10), claims...), 2*client.RecordCost + 2*headerCost},
		{nil, 0},
		{[]byte{2, 0}, client.RecordCost},
		{bytes.Repeat([]byte{0xff}, 52), 2 * client.RecordCost},
		// More than an int of 32 bits counts: each record claims a header for each of its bytes.
		{bytes.Repeat([]byte{2 * 6, 0, 0, 0, 1, 1, 2 * 60}, 5000000), 5000000 * (client.RecordCost + 6*headerCost)},
	} {
		if got := recordsCost(one.data); got != one.want {
			t.Errorf("recordsCost(%.40x) = %d, want %d", one.data, got, one.want)
		}
	}
}

// TestDecompressor_TotalBudget checks that data in use fills the budget, that a waiting consumer still gets a
// batch, and that collected data frees the budget.
func TestDecompressor_TotalBudget(t *testing.T) {
	total := &memoryBudget{limit: 10 << 20}
	d := newDecompressor(kafkatest.Connection(), total)
	src := packed(t, kgo.CodecZstd, bytes.NewReader(records(10, 500000)))
	var held [][]byte
	for len(held) < 10 {
		out, err := d.Decompress(src, kgo.CodecZstd)
		if err != nil {
			if !errors.Is(err, errNoBudget) {
				t.Fatal(err)
			}
			break
		}
		held = append(held, out)
	}
	if len(held) == 0 || len(held) > 2 {
		t.Fatalf("%d batches of 5 MB in 10 MiB", len(held))
	}
	d.waiting.Store(true)
	out, err := d.Decompress(src, kgo.CodecZstd)
	if err != nil {
		t.Fatalf("while the consumer waits: %v", err)
	}
	if _, err := d.Decompress(src, kgo.CodecZstd); !errors.Is(err, errNoBudget) {
		t.Fatalf("a second batch while the consumer waits: %v", err)
	}
	runtime.KeepAlive(held)
	runtime.KeepAlive(out)
	eventually(t, "the budget is free again", func() bool {
		runtime.GC()
		return total.used.Load() == 0
	})
}

// compressedBatch encodes a record batch with count records, which are compressed already.
func compressedBatch(codec kgo.CompressionCodecType, payload []byte, count int) []byte {
	b := kmsg.RecordBatch{
		Magic: 2, PartitionLeaderEpoch: -1, Attributes: int16(codec), LastOffsetDelta: int32(count) - 1, ProducerID: -1, ProducerEpoch: -1,
		FirstSequence: -1, NumRecords: int32(count), Records: payload,
		FirstTimestamp: time.Now().UnixMilli(), MaxTimestamp: time.Now().UnixMilli(),
	}
	b.Length = int32(client.BatchHeaderBytes - 12 + len(payload))
	data := b.AppendTo(nil)
	binary.BigEndian.PutUint32(data[client.BatchCRCAt:], crc32.Checksum(data[client.BatchCRCAt+4:], client.Castagnoli))
	return data
}

// appendBatch appends an unchanged batch to a partition.
func appendBatch(t testing.TB, cl *kgo.Client, topic string, partition int32, batch []byte) {
	t.Helper()
	req := kmsg.NewPtrProduceRequest()
	req.Acks, req.TimeoutMillis = -1, 10000
	one := kmsg.NewProduceRequestTopic()
	one.Topic = topic
	metadata := kmsg.NewPtrMetadataRequest()
	wanted := kmsg.NewMetadataRequestTopic()
	wanted.Topic = kmsg.StringPtr(topic)
	metadata.Topics = append(metadata.Topics, wanted)
	known, err := metadata.RequestWith(context.Background(), cl)
	if err != nil {
		t.Fatal(err)
	}
	one.TopicID = known.Topics[0].TopicID
	p := kmsg.NewProduceRequestTopicPartition()
	p.Partition, p.Records = partition, batch
	one.Partitions = append(one.Partitions, p)
	req.Topics = append(req.Topics, one)
	resp, err := req.RequestWith(context.Background(), cl)
	if err != nil {
		t.Fatal(err)
	}
	if err := kerr.ErrorForCode(resp.Topics[0].Partitions[0].ErrorCode); err != nil {
		t.Fatal(err)
	}
}

// raceDetector reports whether the tests run with the race detector, which needs additional memory.
var raceDetector bool

const bombsEnv = "RES_KAFKA_TEST_BOMBS"

// TestConsumer_Bombs_StayWithinBudget checks that eight batches of 900 MiB each are skipped, counted and
// logged, that the records around the batches are delivered, and that the process needs less than 256 MB. The
// test measures a process of its own.
func TestConsumer_Bombs_StayWithinBudget(t *testing.T) {
	if os.Getenv(bombsEnv) == "" {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestConsumer_Bombs_StayWithinBudget$", "-test.v")
		cmd.Env = append(os.Environ(), bombsEnv+"=1")
		out, err := cmd.CombinedOutput()
		found := regexp.MustCompile(`peak (\d+) kB`).FindSubmatch(out)
		if err != nil || found == nil {
			t.Fatalf("%v\n%s", err, out)
		}
		peak, _ := strconv.Atoi(string(found[1]))
		t.Logf("peak of the process: %d MB", peak/1000)
		if limit := 256000; peak > limit && !raceDetector {
			t.Errorf("the process needed %d kB, more than %d", peak, limit)
		}
		return
	}
	partitions, size := 8, int64(900<<20)
	if raceDetector { // which makes decompressing slow
		partitions, size = 1, 60<<20
	}
	value := binary.AppendVarint(nil, size)
	body := append([]byte{0, 0, 0, 1}, value...)
	head := append(binary.AppendVarint(nil, int64(len(body))+size+1), body...)
	bomb := compressedBatch(kgo.CodecZstd, packed(t, kgo.CodecZstd, io.MultiReader(bytes.NewReader(head), zeros(size+1))), 1)
	cluster := kafkatest.Broker(t, kfake.SeedTopics(int32(partitions), "t"))
	cl := kafkatest.Writer(t, cluster)
	write(t, cl, "t", partitions, 0, 10)
	for p := range int32(partitions) {
		appendBatch(t, cl, "t", p, bomb)
	}
	write(t, cl, "t", partitions, 10, 20)
	log := kafkatest.NewLines()
	m := listen(t, consuming(cluster.ListenAddrs()...), log, nil, "t")
	m.waitFor(partitions * 20)
	_, v := shown(m.Consumer)
	if batches, offsets := v.Sum(metrics.SkippedBatches), v.Sum(metrics.SkippedOffsets); batches != uint64(partitions) || offsets != uint64(partitions) {
		t.Errorf("skipped: %d batches, %d offsets", batches, offsets)
	}
	for p := range partitions {
		log.WaitFor(t, host.Error, fmt.Sprintf("topic t partition %d: the batch of offsets 10 to 10 needs more than ", p))
	}
	m.Close()
	for p := range int32(partitions) {
		if n := commits(cluster, "g", "t", p); n != 21 {
			t.Errorf("partition %d: committed %d, want 21", p, n)
		}
	}
	status, err := os.ReadFile("/proc/self/status")
	if err != nil {
		t.Fatal(err)
	}
	_, rest, _ := strings.Cut(string(status), "VmHWM:")
	fmt.Printf("peak %s kB of %d bytes of bombs\n", strings.Fields(rest)[0], partitions*len(bomb))
}

// TestVarint_EachLength_LikeTheLibrary guards the budget of decompressed records: the short cut for small numbers must
// agree with the library's decoder, also for cut and longer input.
func TestVarint_EachLength_LikeTheLibrary(t *testing.T) {
	for i := int64(-20000); i < 20000; i++ {
		b := append(binary.AppendVarint(nil, i), 0x85)
		for cut := range len(b) + 1 {
			n, used := varint(b[:cut])
			if want, length := binary.Varint(b[:cut]); n != want || used != length {
				t.Fatalf("varint(%x) = %d, %d, want %d, %d", b[:cut], n, used, want, length)
			}
		}
	}
}
