package apache

import (
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/internal/config"
	kafka "reskafka/internal/kafka/produce"
	"reskafka/internal/outbox"
	"reskafka/internal/record"
)

// account is an outbox.Gate and an outbox.Observer that counts outcomes.
type account struct {
	t     *testing.T
	mtx   sync.Mutex
	ended int
	more  chan struct{}
}

func (a *account) Release(*record.Record) {
	a.mtx.Lock()
	defer a.mtx.Unlock()
	a.ended++
	select {
	case a.more <- struct{}{}:
	default:
	}
}
func (a *account) Spooling(error) {}
func (a *account) Panicked(p any) { a.t.Errorf("panic: %v", p) }
func (a *account) Dropped(topic, reason string, records int, err error) {
	a.t.Errorf("%d record(s) of %s dropped, %s: %v", records, topic, reason, err)
}

func (a *account) Died(topic, reason string, records int, err error) {
	a.Dropped(topic, reason, records, err)
}

func (a *account) wait(n int) {
	a.t.Helper()
	for ctx := testContext(a.t); ; {
		a.mtx.Lock()
		ended := a.ended
		a.mtx.Unlock()
		if ended >= n {
			return
		}
		select {
		case <-a.more:
		case <-ctx.Done():
			a.t.Fatalf("%d of %d outcomes", ended, n)
		}
	}
}

// TestNothingTwice freezes the leader for longer than any wait for an answer, freezes all other replicas, and
// kills the leader. In each case the client is replaced, like in a reload, under constant traffic. With
// idempotence each record arrives once, and in order.
func TestNothingTwice(t *testing.T) {
	list := os.Getenv("RES_KAFKA_APACHE")
	if list == "" {
		t.Skip("RES_KAFKA_APACHE names no Apache Kafka")
	}
	_, folder, _ := strings.Cut(strings.Split(list, ":")[0], "=")
	c := start(t, Config{Kafka: folder, Nodes: 3})
	admin := kadm.NewClient(client(t, c.Brokers(Plaintext.Name)))
	if _, err := admin.CreateTopic(testContext(t), 1, 3, nil, "test"); err != nil {
		t.Fatal(err)
	}
	parsed, problems := config.ParseKafka([]config.Entry{
		{Section: "c"}, {Section: "c", Name: "type", Value: "connection"}, {Section: "c", Name: "brokers", Value: c.Brokers(Plaintext.Name)},
		{Section: "c", Name: "enable_idempotence", Value: "yes"}, {Section: "c", Name: "socket_timeout_ms", Value: "1000"},
		{Section: "c", Name: "request_timeout_ms", Value: "1000"}, {Section: "c", Name: "reconnect_backoff_max_ms", Value: "500"},
	})
	if parsed == nil {
		t.Fatal(problems)
	}
	settings := parsed.Connections[0]
	producer := func() *kafka.Producer {
		p, err := kafka.NewProducer(settings, nil, nil)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	p := producer()
	window, _ := kafka.Window()
	limits := outbox.Settings{Timeout: time.Hour, WindowRecords: window,
		Backoff: settings.ReconnectBackoff, BackoffMax: settings.ReconnectBackoffMax}
	a := &account{t: t, more: make(chan struct{}, 1)}
	box := outbox.New(limits, p, a, a)
	defer box.Close()
	reload := func() {
		box.Swap(producer(), limits, time.Hour)
	}
	sent := 0
	send := func(d time.Duration) { // records all the time for so long
		for end := time.Now().Add(d); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
			var some []record.Record
			for range 20 {
				some = append(some, record.Record{Topic: "test", Key: []byte("k"), Value: fmt.Append(nil, sent), Accepted: time.Now()})
				sent++
			}
			box.Accept(some)
		}
	}
	send(200 * time.Millisecond)
	a.wait(sent)
	step := func(name string, fault, repair func() error) {
		t.Helper()
		if err := fault(); err != nil {
			t.Fatal(err)
		}
		send(1300 * time.Millisecond)
		reload()
		send(200 * time.Millisecond)
		if err := repair(); err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		send(100 * time.Millisecond)
		a.wait(sent)
		t.Logf("%s: all %d acknowledged %v after the end of it", name, sent, time.Since(began).Round(time.Millisecond))
		waitInSync(t, admin, 3)
	}
	leader := leaderOf(t, admin)
	step("the leader freezes", func() error { return c.Pause(leader) }, func() error { return c.Resume(leader) })
	leader = leaderOf(t, admin)
	others := []int{leader%3 + 1, (leader+1)%3 + 1}
	step("the others freeze", func() error { _ = c.Pause(others[0]); return c.Pause(others[1]) },
		func() error { _ = c.Resume(others[0]); return c.Resume(others[1]) })
	leader = leaderOf(t, admin)
	step("the leader is killed", func() error { c.Kill(leader); return nil }, func() error { return c.Restart(testContext(t), leader) })
	reader := client(t, c.Brokers(Plaintext.Name), kgo.ConsumeTopics("test"), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	for next := 0; next < sent; {
		fetches := reader.PollFetches(testContext(t))
		if err := fetches.Err(); err != nil {
			t.Fatal(err)
		}
		fetches.EachRecord(func(r *kgo.Record) {
			if string(r.Value) != fmt.Sprint(next) {
				t.Fatalf("record %s at offset %d, where %d was due", r.Value, r.Offset, next)
			}
			next++
		})
	}
	ends, err := admin.ListEndOffsets(testContext(t), "test")
	if err != nil {
		t.Fatal(err)
	}
	if o, _ := ends.Lookup("test", 0); o.Offset != int64(sent) {
		t.Errorf("%d records, want %d", o.Offset, sent)
	}
}
