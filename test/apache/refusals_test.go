package apache

import (
	"fmt"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/test/world"
)

// TestRefusals_ClocksAndLongRequests_LoseNothing has Apache Kafka itself refuse times, records and long
// requests. Records of a clock two hours ahead, and too old records, get another time. A record without a key
// for a compacted topic is refused alone. A broker with a low socket.request.max.bytes gets every record,
// after two closed connections at most, except a single record over the limit, which becomes a dead letter.
func TestRefusals_ClocksAndLongRequests_LoseNothing(t *testing.T) {
	const many = 2000
	limits := regexp.MustCompile(`should be within \[-?\d+, \d+\]`) // in the form read by internal/kafka/produce
	eachVersion(t, func(t *testing.T, folder string) {
		c := start(t, Config{Kafka: folder, Listeners: []Listener{Plaintext}, Properties: map[string]string{"socket.request.max.bytes": "300000"}})
		admin := kadm.NewClient(client(t, c.Brokers(Plaintext.Name)))
		hour, compact := "3600000", "compact"
		for topic, config := range map[string]map[string]*string{
			"clock":   {"message.timestamp.after.max.ms": &hour, "message.timestamp.before.max.ms": &hour},
			"compact": {"cleanup.policy": &compact},
			"long":    nil,
		} {
			if _, err := admin.CreateTopic(testContext(t), 2, 1, config, topic); err != nil {
				t.Fatal(err)
			}
		}
		w := world.New(t, "clock", t.TempDir(), 2*time.Minute)
		if err := w.Configure("[one]\ntype = connection\nbrokers = " + c.Brokers(Plaintext.Name) + "\nenable_idempotence = yes\n"); err != nil {
			t.Fatal(err)
		}
		p, err := w.Open("one")
		if err != nil {
			t.Fatal(err)
		}
		settled := func(want int) {
			t.Helper()
			if n, err := p.Settled(); err != nil || n != want {
				t.Fatalf("%d of %d records acknowledged: %v: %q", n, want, err, w.Log.With())
			}
		}
		values := func(size int) (all []string) {
			for i := range many {
				all = append(all, fmt.Sprintf("%06d", i)+strings.Repeat("v", size))
			}
			return all
		}
		p.Ahead = 2 * time.Hour
		p.Put(values(10)...)
		settled(many)
		p.Ahead = -48 * time.Hour
		p.Put(values(10)...)
		settled(2 * many)
		lines := w.Log.With("error: ", "topic clock: INVALID_TIMESTAMP")
		if len(lines) == 0 || !limits.MatchString(lines[0]) {
			t.Errorf("the log has %q", w.Log.With())
		}

		p.Ahead, w.Topic = 0, "compact"
		p.Key = func(value string) []byte {
			if strings.HasPrefix(value, "bad") {
				return nil
			}
			return []byte("key")
		}
		p.Put(append(values(10), "bad")...)
		settled(3 * many)
		if lines := w.Log.With("INVALID_RECORD", "message without key"); len(lines) != 1 {
			t.Errorf("the log has %q", w.Log.With())
		}

		w.Topic = "long"
		p.Key = func(value string) []byte { return []byte(value[:6]) }
		p.Put(values(1000)...)
		settled(4 * many)
		if closed := len(w.Log.With("is back after")); closed > 2 || len(w.Log.With("see request_max_bytes")) == 0 {
			t.Errorf("%d connections were closed: %q", closed, w.Log.With())
		}
		p.Put("000000"+strings.Repeat("v", 400_000), "000000 behind")
		settled(4*many + 1)
		if lines := w.Log.With("1 record(s) for topic 'long' became dead letters", "message too large", "message_max_bytes"); len(lines) != 1 {
			t.Errorf("the log has %q", w.Log.With())
		}
		for topic, want := range map[string]int{"clock": 2 * many, "compact": many, "long": many + 1} {
			reader := client(t, c.Brokers(Plaintext.Name), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
			for n := 0; n < want; {
				fetches := reader.PollFetches(testContext(t))
				if err := fetches.Err(); err != nil {
					t.Fatalf("%s: %d of %d: %v", topic, n, want, err)
				}
				n += fetches.NumRecords()
			}
		}
	})
}
