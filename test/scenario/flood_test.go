package scenario

import (
	"regexp"
	"strconv"
	"testing"
	"time"
)

// flood runs `kafka flood`: threads that produce numbered messages, and a consumer in the same Asterisk.
type flood struct {
	*world
	topic               string
	threads, each, keys int
}

// counts are the numbers of `kafka flood show`; see flood.c for their meaning.
type counts struct{ produced, refusals, came, twice, again, disordered, strange, ms int }

var counted7 = regexp.MustCompile(`produced (\d+) refusals (\d+) came (\d+) twice (\d+) again (\d+) disordered (\d+) strange (\d+) after (\d+) ms`)

func (f *flood) counts() (c counts) {
	f.Helper()
	m := counted7.FindStringSubmatch(f.expect(counted7.String(), "kafka flood show"))
	for i, n := range []*int{&c.produced, &c.refusals, &c.came, &c.twice, &c.again, &c.disordered, &c.strange, &c.ms} {
		*n, _ = strconv.Atoi(m[i+1])
	}
	return c
}

// start makes the topic, subscribes and begins to produce, flat out; each thread waits before message number hold.
func (f *flood) start(partitions, hold int) {
	f.Helper()
	f.expect(`ensure 0`, "kafka probe ensure producing %s %d 0 wait", f.topic, partitions)
	f.expect(`check 0`, "kafka flood check consuming %s %d %d %d", f.topic, f.threads, f.each, f.keys)
	f.expect(`start 0`, "kafka flood start producing %s %d %d %d 0 %d", f.topic, f.threads, f.each, f.keys, hold)
}

// came waits for count different messages, while more messages keep coming.
func (f *flood) came(count int) counts {
	f.Helper()
	for last, deadline := 0, time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		c := f.counts()
		if c.came >= count {
			return c
		}
		if c.came > last {
			last, deadline = c.came, time.Now().Add(patience)
		}
		if time.Now().After(deadline) {
			f.Fatalf("no more messages come: %+v, want %d\n%s\n%s", c, count, f.cli("kafka show connection producing"),
				f.cli("kafka show consumer consuming"))
		}
	}
}

// settled waits until every message has arrived and is known to the producer, and returns the counts.
// Duplicates have arrived once the producer has every acknowledgement and the consumer has read the whole
// topic.
func (f *flood) settled() counts {
	f.Helper()
	total := f.threads * f.each
	f.came(total)
	f.acknowledged("producing", total)
	ends, err := f.admin().ListEndOffsets(f.ctx, f.topic)
	if err != nil || ends.Error() != nil {
		f.Fatal(err, ends.Error())
	}
	inTopic := int64(0)
	for _, end := range ends.Offsets()[f.topic] {
		inTopic += end.At
	}
	for deadline := time.Now().Add(patience); ; time.Sleep(50 * time.Millisecond) {
		c := f.counts()
		if c.came+c.twice == int(inTopic) {
			return c
		}
		if time.Now().After(deadline) {
			f.Fatalf("%d records are in the topic, counted are %+v", inTopic, c)
		}
	}
}

// newFlood starts an Asterisk with a producer on one connection, with these options, and a consumer on
// another.
func newFlood(t *testing.T, on kind, messages int, producing string) *flood {
	w := newWorld(t, options{on: on, modules: []string{"res_kafka", "kafka_probe"}, files: map[string]string{
		"kafka.conf": "[producing]\ntype = connection\nbrokers = %BROKER%\n" + producing +
			"\n[consuming]\ntype = connection\nbrokers = %BROKER%\ngroup_id = flood-%ID%\nauto_offset_reset = earliest\n",
	}})
	const threads = 16
	return &flood{world: w, topic: w.name("flood"), threads: threads, each: messages / threads, keys: 100}
}

// leader returns a node in charge of a partition of the topic.
func (f *flood) leader() int {
	f.Helper()
	topics, err := f.admin().ListTopics(f.ctx, f.topic)
	if err != nil || topics.Error() != nil {
		f.Fatal(err, topics.Error())
	}
	return int(topics[f.topic].Partitions[0].Leader)
}

// outage removes a node with partitions after a third of the messages, while the second third is produced.
// The threads produce the last third after the node's return. The node is killed, or stopped in an orderly
// way.
func (f *flood) outage(kill bool) {
	f.Helper()
	third := f.each / 3
	f.start(8, third)
	before := f.came(third * f.threads)
	node := f.leader()
	f.cli("kafka flood go %d", 2*third)
	if kill {
		f.cluster.Kill(node)
	}
	if err := f.cluster.Restart(f.ctx, node); err != nil {
		f.Fatal(err)
	}
	f.Logf("node %d restarted between %+v and %+v", node, before, f.counts())
	f.cli("kafka flood go")
}

// three lists the kinds of cluster that survive the loss of one broker.
func three(t *testing.T) []kind {
	var all []kind
	for _, on := range kinds() {
		if on.brokers == 3 && !on.embedded() {
			all = append(all, on)
		}
	}
	if len(all) == 0 {
		t.Skip("RES_KAFKA_APACHE names no Apache Kafka, and the embedded brokers cannot be restarted one by one")
	}
	return all
}

// TestMillionMessagesThroughARestartedBroker checks that 1,000,000 messages of 16 threads all arrive, in the
// order of their keys, through a restart of one of three brokers. The producer is idempotent, so no message
// arrives twice.
func TestMillionMessagesThroughARestartedBroker(t *testing.T) {
	on := three(t)[0]
	t.Run(on.String(), func(t *testing.T) {
		counted(t, on)
		f := newFlood(t, on, 1000000, "enable_idempotence = yes\n")
		f.outage(false)
		c := f.settled()
		f.Logf("%+v: %d messages/s", c, c.came*1000/c.ms)
		if c.came != 1000000 || c.twice+c.again+c.disordered+c.strange > 0 {
			t.Errorf("%+v, want each of 1000000 once and in order", c)
		}
	})
}

// TestMessagesThroughAKilledBroker checks the same without idempotence and with a killed broker: all arrive
// in the order of their keys. Some may be in the topic twice.
func TestMessagesThroughAKilledBroker(t *testing.T) {
	for _, on := range three(t) {
		t.Run(on.String(), func(t *testing.T) {
			counted(t, on)
			f := newFlood(t, on, 192000, "queue_buffering_max_messages = 20000\n")
			f.outage(true)
			c := f.settled()
			f.Logf("%+v: %d messages/s", c, c.came*1000/c.ms)
			if c.came != 192000 || c.disordered+c.strange > 0 {
				t.Errorf("%+v, want each of 192000 in order", c)
			}
		})
	}
}
