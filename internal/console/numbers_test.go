package console

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"reskafka/internal/metrics"
)

// values are numbers with labels: "topic events, partition 1".
type values []struct {
	metric *metrics.Metric
	n      uint64
	labels string
}

// add adds the numbers to v.
func (list values) add(v *metrics.Values) *metrics.Values {
	for _, one := range list {
		at := v
		for label := range strings.SplitSeq(one.labels, ", ") {
			if name, value, ok := strings.Cut(label, " "); ok {
				at = at.In(name, value)
			}
		}
		at.Add(one.metric, one.n)
	}
	return v
}

// of has the numbers of a connection.
func of(connection string, list values) *metrics.Values { return list.add(metrics.Of(connection)) }

// at returns a time in the past as a number.
func at(d time.Duration) uint64 { return uint64(ago(d).UnixNano()) }

// busyNumbers has every printed number about messages.
func busyNumbers() *metrics.Values {
	const cdr = "topic asterisk_cdr"
	return of("my-kafka", values{
		{metrics.BrokerConnected, 1, "broker kafka1:9092"}, {metrics.BrokerConnected, 0, "broker kafka2:9092"},
		{metrics.RecordsAccepted, 100, "topic zeta"}, {metrics.RecordsAcknowledged, 100, "topic zeta"},
		{metrics.RecordsAccepted, 19103, cdr}, {metrics.RecordsRestored, 199, cdr}, {metrics.RecordsAcknowledged, 800, cdr},
		{metrics.RecordsWaiting, 55, cdr}, {metrics.RecordsSending, 30, cdr}, {metrics.RecordsSpooled, 18204, cdr},
		{metrics.RecordsRetried, 12, cdr}, {metrics.DeadLetters, 4, cdr + ", reason not authorized"},
		{metrics.RecordsDropped, 10, cdr + ", reason message timeout"}, {metrics.RecordsDropped, 0, cdr + ", reason stopped"},
		{metrics.TopicBlockedSince, at(5 * time.Minute), cdr},
		{metrics.RecordsAccepted, 1, "topic "}, {metrics.RecordsRestored, 1, "topic "}, {metrics.DeadLetters, 1, "topic , reason earlier run"},
		{metrics.RecordsRefused, 3, "reason queue full"}, {metrics.RecordsRefused, 1, "reason message too large"},
		{metrics.TopicBlockedSince, at(5 * time.Minute), "topic no messages"},
		{metrics.LastError, at(7 * time.Second), ""},
	})
}

// memberNumbers has partitions in every distinguished state.
func memberNumbers() *metrics.Values {
	place := func(topic, partition string, position, stable, end, lag uint64) values {
		labels := "topic " + topic + ", partition " + partition
		return values{
			{metrics.Position, position, labels}, {metrics.StableOffset, stable, labels}, {metrics.HighWatermark, end, labels},
			{metrics.Lag, lag, labels},
		}
	}
	v := metrics.Of("my-kafka").In(metrics.Subscription, "1")
	values{
		{metrics.Delivered, 1204, ""}, {metrics.Assigned, 5, ""}, {metrics.SkippedBatches, 2, ""}, {metrics.SkippedOffsets, 1300, ""},
		{metrics.Rebalances, 2, ""}, {metrics.LastRebalance, at(3 * time.Hour), ""}, {metrics.LastError, at(3 * time.Second), ""},
		{metrics.CallbackLast, uint64(250 * time.Microsecond), ""}, {metrics.CallbackMax, uint64(12300 * time.Millisecond), ""},
		{metrics.CallbackRunning, uint64(4200 * time.Millisecond), ""},
		{metrics.Committed, 1100, "topic calls-x, partition 0"},
	}.add(v)
	place("calls-x", "0", 1200, 1300, 1300, 100).add(v)
	place("events", "1", 5, 40, 40, 35).add(v)
	place("events", "2", 7, 7, 12, 5).add(v)
	place("events", "3", 7, 7, 7, 0).add(v)
	return v
}

// TestShowConsumer_ManyPartitions_PrintsFifty guards that a consumer with thousands of partitions does not
// flood a console, and that hidden partitions are counted.
func TestShowConsumer_ManyPartitions_PrintsFifty(t *testing.T) {
	const all = 1000
	m := MemberStatus{Topics: []string{"t"}, State: "stable", Joined: true, Numbers: metrics.Of("c").In(metrics.Subscription, "1")}
	for i := range int32(all) {
		m.Partitions = append(m.Partitions, PartitionStatus{Topic: "t", Partition: i})
		values{{metrics.Lag, 2, "topic t, partition " + strconv.Itoa(int(i))}}.add(m.Numbers)
	}
	env := &fakeEnv{consumers: []ConsumerStatus{{Name: "c", GroupID: "g", Subscribed: true, Members: []MemberStatus{m}}}}
	text, _ := run(t, env, "kafka show consumer c")
	if n := strings.Count(text, "\nt  "); n != maxPartitionRows {
		t.Errorf("%d partitions are printed, want %d", n, maxPartitionRows)
	}
	if want := "and 950 more partitions, with a lag of 1900\n"; !strings.HasSuffix(text, want) {
		t.Errorf("the output does not end with %q:\n%s", want, text)
	}
}

func TestTook(t *testing.T) {
	for d, want := range map[time.Duration]string{
		0: "0 ms", 25: "0 ms", 250 * time.Microsecond: "0.25 ms", 12345 * time.Microsecond: "12.3 ms", 4204 * time.Millisecond: "4.2 s",
		time.Hour: "3600 s",
	} {
		if got := took(d); got != want {
			t.Errorf("%v: got %q, want %q", d, got, want)
		}
	}
}
