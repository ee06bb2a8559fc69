package produce

import (
	"bytes"
	"encoding/hex"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/record"
	"reskafka/test/kafkatest"
	"reskafka/test/pbx"
)

// few returns the partitions with a leader, of n.
func few(n int) []int32 {
	var all []int32
	for i := range n {
		all = append(all, int32(i))
	}
	return all
}

// TestKnownPlaces has values of CRC-32 from outside Go: the check value of "123456789" and others. A key
// keeps its partition without a leader.
func TestKnownPlaces(t *testing.T) {
	part := newConsistentRandom(0)
	for _, test := range []struct {
		key  string
		hash uint32
	}{
		{"123456789", 0xcbf43926}, // the check value in the catalogues of CRCs
		{"a", 0xe8b7be43},
		{"abc", 0x352441c2},
		{"\x00", 0xd202ef8d},
		{"\xff\xff\xff\xff", 0xffffffff},
	} {
		for _, n := range []int{1, 2, 3, 16, 50, 1000} {
			for _, usable := range [][]int32{few(n), nil, {0}} {
				if got := part.partition([]byte(test.key), n, usable); got != int32(test.hash%uint32(n)) {
					t.Errorf("key %q of %d: %d, want %d", test.key, n, got, test.hash%uint32(n))
				}
			}
		}
	}
}

// TestWithoutKey checks that NULL and empty keys share a random partition with a leader, for the sticky time.
func TestWithoutKey(t *testing.T) {
	now := time.Unix(1000, 0)
	draws := 0
	draw := func(n int) int { draws++; return draws % n }
	sticky := &consistentRandom{sticky: 10 * time.Millisecond, now: func() time.Time { return now }, random: draw}
	all := few(50)
	first := sticky.partition(nil, 50, all)
	now = now.Add(9 * time.Millisecond)
	sticky.partition([]byte("k"), 50, all)
	if sticky.partition([]byte{}, 50, all) != first || draws != 1 {
		t.Errorf("%d draws within the sticky time", draws)
	}
	now = now.Add(time.Millisecond)
	if sticky.partition(nil, 50, all) == first || draws != 2 {
		t.Errorf("%d draws after the sticky time", draws)
	}
	if got := sticky.partition(nil, 50, []int32{7, 9}); got != 9 || draws != 3 {
		t.Errorf("partition %d after %d draws, when the one chosen lost its leader", got, draws)
	}
	if got := sticky.partition(nil, 50, []int32{7, 9}); got != 9 || draws != 3 {
		t.Errorf("partition %d after %d draws, with few leaders", got, draws)
	}

	draws = 0
	each := &consistentRandom{now: time.Now, random: draw}
	for range 5 {
		each.partition(nil, 50, all)
	}
	if draws != 5 {
		t.Errorf("%d draws for 5 records with linger_ms = 0", draws)
	}

	// The real thing reaches every partition.
	seen := map[int32]bool{}
	real := newConsistentRandom(0)
	for range 2000 {
		seen[real.partition(nil, 16, few(16))] = true
	}
	if len(seen) != 16 {
		t.Errorf("%d of 16 partitions", len(seen))
	}
}

// keys returns a thousand different keys of every length up to 300, a key of 10 kB, and every byte.
func keys() [][]byte {
	random := rand.New(rand.NewPCG(1, 2))
	all := [][]byte{[]byte("PJSIP/alice-0000002a"), []byte("1700000000.42"), []byte("+4930123456"), []byte("schlüssel"), bytes.Repeat([]byte("x"), 10000)}
	seen := map[string]bool{}
	for _, k := range all {
		seen[string(k)] = true
	}
	add := func(k []byte) {
		if !seen[string(k)] {
			seen[string(k)] = true
			all = append(all, k)
		}
	}
	for b := range 256 {
		add([]byte{byte(b)})
	}
	for length := 2; len(all) < 1000; length = length%300 + 2 {
		k := make([]byte, length)
		for i := range k {
			k[i] = byte(random.Uint32())
		}
		add(k)
	}
	return all
}

// TestSamePlaceAsLibrdkafka produces a thousand keys with kcat, which uses librdkafka, to topics of several
// sizes, and then with this package: both must choose the same partition for every key.
func TestSamePlaceAsLibrdkafka(t *testing.T) {
	kcat, err := pbx.KcatArgv(os.Getenv("RES_KAFKA_ROOT"))
	if err != nil {
		t.Skip("kcat, the command line client built on librdkafka, is neither in RES_KAFKA_ROOT nor in PATH: nothing to compare with")
	}
	counts := []int{1, 3, 16, 50}
	var opts []kfake.Opt
	for _, n := range counts {
		opts = append(opts, kfake.SeedTopics(int32(n), fmt.Sprint("t", n)))
	}
	cluster := kafkatest.Broker(t, opts...)
	all := keys()
	p := open(t, kafkatest.Connection(cluster.ListenAddrs()...), nil, nil)
	for _, n := range counts {
		topic := fmt.Sprint("t", n)
		viaKcat(t, kcat, cluster.ListenAddrs()[0], topic, all)
		var records []record.Record
		for i, key := range all {
			records = append(records, record.Record{Topic: topic, Key: key, Value: []byte(strconv.Itoa(i)), Accepted: time.Now()})
		}
		kafkatest.SendAll(t, p, kafkatest.Records(records...)...)

		theirs, same := map[string]int32{}, 0
		for _, r := range kafkatest.Consume(t, topic, 2*len(all), cluster.ListenAddrs()) {
			place := string(r.Value)
			i, err := strconv.Atoi(place)
			if err != nil || !bytes.Equal(r.Key, all[i]) {
				t.Fatalf("key %d did not arrive as it was: %x", i, r.Key)
			}
			if at, there := theirs[place]; !there {
				theirs[place] = r.Partition
			} else if at == r.Partition {
				same++
			} else {
				t.Errorf("key %x of %d partitions: %d and %d", r.Key, n, at, r.Partition)
			}
			if want := int32(crc32.ChecksumIEEE(r.Key) % uint32(n)); r.Partition != want {
				t.Errorf("key %x of %d partitions is on %d, want %d", r.Key, n, r.Partition, want)
			}
		}
		if same != len(all) {
			t.Errorf("%d of %d keys of %d partitions are in the same place", same, len(all), n)
		}
	}
}

// viaKcat produces key i with the value i. kcat splits its input into records by delimiters, here strings too
// long to occur in a key.
func viaKcat(t *testing.T, kcat []string, broker, topic string, keys [][]byte) {
	t.Helper()
	const betweenRecords, afterKey = "\x1e--record--\x1e", "\x1f--key--\x1f"
	var input bytes.Buffer
	for i, key := range keys {
		fmt.Fprintf(&input, "%s%s%d%s", key, afterKey, i, betweenRecords)
	}
	args := append(slices.Clone(kcat[1:]), "-P", "-b", broker, "-t", topic, "-l",
		"-D", escaped(betweenRecords), "-K", escaped(afterKey), "/dev/stdin")
	cmd := exec.Command(kcat[0], args...)
	cmd.Stdin = &input
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("kcat: %v\n%s", err, out)
	}
}

// escaped returns a delimiter in the syntax of kcat's command line.
func escaped(delimiter string) string {
	var b strings.Builder
	for i := range len(delimiter) {
		b.WriteString(`\x` + hex.EncodeToString([]byte{delimiter[i]}))
	}
	return b.String()
}
