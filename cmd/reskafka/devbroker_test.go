package main

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/test/pbx"
)

// startBroker runs the command in this process, at a free port without a flag for the port, and returns the
// printed address. stop ends the command like a signal and returns its exit status.
func startBroker(t *testing.T, flags ...string) (address string, stop func() int) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	read, write := io.Pipe()
	var stderr bytes.Buffer
	status := make(chan int, 1)
	go func() {
		status <- run(ctx, append([]string{"dev-broker", "--port", "0"}, flags...), write, &stderr)
		_ = write.Close()
	}()
	line, err := bufio.NewReader(read).ReadString('\n')
	if err != nil {
		cancel()
		t.Fatalf("no ready line: %v; status %d, stderr %q", err, <-status, &stderr)
	}
	address, found := strings.CutPrefix(strings.TrimSpace(line), "dev-broker listening on ")
	if !found || !strings.HasPrefix(address, "127.0.0.1:") {
		t.Errorf("ready line is %q", line)
	}
	stopped := false
	stop = func() int {
		if stopped {
			return 0
		}
		stopped = true
		cancel()
		return <-status
	}
	t.Cleanup(func() { stop() })
	return address, stop
}

func client(t *testing.T, address string, options ...kgo.Opt) *kgo.Client {
	t.Helper()
	c, err := kgo.NewClient(append(options, kgo.SeedBrokers(strings.Split(address, ",")...), kgo.AllowAutoTopicCreation())...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// readOne reads the first record of a topic.
func readOne(t *testing.T, address, topic string) *kgo.Record {
	t.Helper()
	c := client(t, address, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	fetches := c.PollRecords(testContext(t), 1)
	if err := fetches.Err(); err != nil {
		t.Fatal(err)
	}
	return fetches.Records()[0]
}

func TestDevBrokerKeepsItsDataDirectory(t *testing.T) {
	dir := t.TempDir() + "/data"
	address, stop := startBroker(t, "--data-dir", dir, "--partitions", "3")
	sent := kgo.KeySliceRecord([]byte("key"), []byte("value"))
	sent.Topic = "kept"
	sent.Headers = []kgo.RecordHeader{{Key: "name", Value: []byte("text")}}
	if err := client(t, address).ProduceSync(testContext(t), sent).FirstErr(); err != nil {
		t.Fatal(err)
	}
	if status := stop(); status != exitOK {
		t.Fatalf("status %d after an orderly end", status)
	}
	address, _ = startBroker(t, "--data-dir", dir)
	got := readOne(t, address, "kept")
	if string(got.Key) != "key" || string(got.Value) != "value" || len(got.Headers) != 1 ||
		got.Headers[0].Key != "name" || string(got.Headers[0].Value) != "text" || got.Partition != sent.Partition {
		t.Errorf("read back %v, sent %v", got, sent)
	}
}

func TestDevBrokerGivesTopicsTheirPartitions(t *testing.T) {
	address, _ := startBroker(t, "--partitions", "7")
	c := client(t, address, kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for partition := range int32(7) {
		record := &kgo.Record{Topic: "parts", Partition: partition}
		if err := c.ProduceSync(testContext(t), record).FirstErr(); err != nil {
			t.Errorf("partition %d: %v", partition, err)
		}
	}
}

// TestDevBrokerIsAClusterOfSeveral checks that several brokers share the partitions, that only a partition's
// leader accepts its records, and that all records and ports are the same after a restart.
func TestDevBrokerIsAClusterOfSeveral(t *testing.T) {
	const partitions = 12
	dir := t.TempDir() + "/data"
	addresses, stop := startBroker(t, "--port", "0,0,0", "--data-dir", dir, "--partitions", fmt.Sprint(partitions))
	ports := strings.ReplaceAll(addresses, "127.0.0.1:", "")
	if strings.Count(ports, ",") != 2 {
		t.Fatalf("three brokers listen on %s", addresses)
	}
	write := func() *kgo.Client {
		t.Helper()
		c := client(t, addresses, kgo.RecordPartitioner(kgo.ManualPartitioner()))
		for partition := range int32(partitions) {
			if err := c.ProduceSync(testContext(t), &kgo.Record{Topic: "spread", Partition: partition}).FirstErr(); err != nil {
				t.Fatalf("partition %d: %v", partition, err)
			}
		}
		return c
	}
	c, leaders := write(), map[int32]bool{}
	for partition := range int32(partitions) {
		leader, _, err := c.PartitionLeader("spread", partition)
		if err != nil {
			t.Fatal(err)
		}
		leaders[leader] = true
	}
	// Each partition is assigned to a random broker of three.
	if len(leaders) < 2 {
		t.Errorf("all partitions are led by %v", leaders)
	}
	if status := stop(); status != exitOK {
		t.Fatalf("status %d after an orderly end", status)
	}
	again, _ := startBroker(t, "--port", ports, "--data-dir", dir)
	if again != addresses {
		t.Errorf("they listen on %s, before on %s", again, addresses)
	}
	write()
	c = client(t, addresses, kgo.ConsumeTopics("spread"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for n := 0; n < 2*partitions; {
		fetches := c.PollFetches(testContext(t))
		if err := fetches.Err(); err != nil {
			t.Fatalf("after %d of %d records: %v", n, 2*partitions, err)
		}
		n += fetches.NumRecords()
	}
}

// TestDevBrokerSwallows checks that records are acknowledged at the usual offsets, and that none is stored.
func TestDevBrokerSwallows(t *testing.T) {
	const count = 5
	address, _ := startBroker(t, "--swallow")
	c := client(t, address)
	for want := range int64(count) {
		record := &kgo.Record{Topic: "gone", Value: []byte("value")}
		if err := c.ProduceSync(testContext(t), record).FirstErr(); err != nil || record.Offset != want {
			t.Fatalf("offset %d, %v, want %d", record.Offset, err, want)
		}
	}
	ends, err := kadm.NewClient(c).ListEndOffsets(testContext(t), "gone")
	if end, _ := ends.Lookup("gone", 0); err != nil || end.Offset != count {
		t.Errorf("the end is %d, %v, want %d", end.Offset, err, count)
	}
	reader := client(t, address, kgo.ConsumeTopics("gone"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	if got := reader.PollFetches(ctx).NumRecords(); got != 0 {
		t.Errorf("%d records can be read", got)
	}
}

func TestDevBrokerSharesNoDataDirectory(t *testing.T) {
	dir := t.TempDir()
	startBroker(t, "--data-dir", dir)
	var stdout, stderr bytes.Buffer
	status := run(testContext(t), []string{"dev-broker", "--port", "0", "--data-dir", dir}, &stdout, &stderr)
	if status != exitError || !strings.Contains(stderr.String(), "in use by another broker") {
		t.Errorf("status %d, stderr %q", status, &stderr)
	}
}

func TestDevBrokerOnAPortThatIsTaken(t *testing.T) {
	address, _ := startBroker(t)
	_, port, _ := strings.Cut(address, ":")
	var stdout, stderr bytes.Buffer
	status := run(testContext(t), []string{"dev-broker", "--port", port}, &stdout, &stderr)
	if status != exitError || !strings.Contains(stderr.String(), "port "+port+" is taken") {
		t.Errorf("status %d, stderr %q", status, &stderr)
	}
}

func TestDevBrokerWithKcat(t *testing.T) {
	root := os.Getenv("RES_KAFKA_ROOT")
	if _, err := pbx.KcatArgv(root); err != nil {
		t.Skipf("%v; `make test-go` fetches one", err)
	}
	address, _ := startBroker(t)
	file := t.TempDir() + "/message"
	message := strings.Repeat("hello world ", 50) // incompressible messages are sent uncompressed
	if err := os.WriteFile(file, []byte(message), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := pbx.Kcat(testContext(t), root, "-P", "-b", address, "-t", "greetings", "-k", "me",
		"-z", "lz4", "-H", "name=text", file); err != nil {
		t.Fatal(err)
	}
	got := readOne(t, address, "greetings")
	if string(got.Value) != message || string(got.Key) != "me" {
		t.Errorf("kcat wrote %v", got)
	}
	// The system's kcat may use a librdkafka of before 2025, which does not compress for brokers without the
	// oldest Produce requests (confluentinc/librdkafka, issue 4956).
	if lz4 := uint8(3); root != "" && got.Attrs.CompressionType() != lz4 {
		t.Errorf("kcat compressed with codec %d, want lz4, which is %d", got.Attrs.CompressionType(), lz4)
	}
	printed, err := pbx.Kcat(testContext(t), root, "-C", "-b", address, "-t", "greetings", "-e", "-q",
		"-f", "%k|%s|%h|%p\n")
	if want := fmt.Sprintf("me|%s|name=text|%d\n", message, got.Partition); err != nil || printed != want {
		t.Errorf("kcat read %q, %v, want %q", printed, err, want)
	}
}
