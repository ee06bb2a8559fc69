package consume

import (
	"context"
	"encoding/binary"
	"net"
	"net/netip"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/metrics"
	"reskafka/test/kafkatest"
	"reskafka/test/wire"
)

// The tests of this file run in a bubble of testing/synctest: minutes of the consumer's limits pass at once.
// A delay comes from the consumer or a broker, never from a busy processor.

// roundTrip is the response time of a broker in a bubble. Without it, a client with repeated requests would
// stop the clock.
const roundTrip = 20 * time.Millisecond

// bubble is a cluster with topic t inside a bubble, on its own network.
type bubble struct {
	*kfake.Cluster
	wires   []*wire.Wire // of each broker
	network kfake.VirtualNetwork
}

// bubbleListener has the clients' address of the broker, so clients need no name lookup.
type bubbleListener struct {
	net.Listener
	address *net.TCPAddr
}

func (l bubbleListener) Addr() net.Addr { return l.address }

func newBubble(t *testing.T, brokers int, partitions int32) *bubble {
	t.Helper()
	b := &bubble{}
	var ports []int
	for i := range brokers {
		ports, b.wires = append(ports, 9092+i), append(b.wires, wire.New())
		b.wires[i].Disturb(wire.Of("asterisk", wire.Delay(roundTrip)))
	}
	b.Cluster = kafkatest.Broker(t, kfake.Ports(ports...), kfake.SeedTopics(partitions, "t"), kfake.GroupMinSessionTimeout(time.Second),
		kfake.ListenFn(func(kind, address string) (net.Listener, error) {
			l, err := b.network.Listen(kind, address)
			if err != nil {
				return nil, err
			}
			at, err := net.ResolveTCPAddr(kind, address)
			if err != nil {
				return nil, err
			}
			return b.wires[at.Port-9092].Listen(bubbleListener{l, at}), nil
		}))
	return b
}

// dial connects to a broker as the system's dialer does.
func (b *bubble) dial(ctx context.Context, network, address string) (net.Conn, error) {
	conn, err := b.network.DialContext(ctx, network, address)
	if err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	return conn, nil
}

// Lookup knows no names: the brokers of a bubble have addresses.
func (b *bubble) Lookup(_ context.Context, host string) ([]netip.Addr, error) {
	addr, err := netip.ParseAddr(host)
	return []netip.Addr{addr}, err
}

// subscribe starts a consumer with the product's limits of time.
func (b *bubble) subscribe(t *testing.T, log host.Logger, options ...func(*config.Connection)) *module {
	t.Helper()
	c := consuming(b.ListenAddrs()...)
	c.SessionTimeout = 3 * time.Second
	for _, option := range options {
		option(c)
	}
	return subscribe(t, c, log, []string{"t"}, func(tune *consumerTuning) {
		*tune = defaultConsumerTuning()
		tune.dialer = func(d *client.Dialer) { d.TCP, d.Resolver = b.dial, b }
	})
}

// writer returns an undisturbed producing client.
func (b *bubble) writer(t *testing.T, opts ...kgo.Opt) *kgo.Client {
	return kafkatest.Writer(t, b.Cluster, append(opts, kgo.Dialer(b.dial))...)
}

// flow counts messages and the longest delay from acknowledgement to delivery, for each minute.
type flow struct {
	mtx     sync.Mutex
	start   time.Time
	count   [4]int
	longest [4]time.Duration
}

func (f *flow) add(m Message) {
	f.mtx.Lock()
	defer f.mtx.Unlock()
	minute := int(m.Timestamp.Sub(f.start) / time.Minute)
	if minute >= 0 && minute < len(f.count) {
		f.count[minute]++
		f.longest[minute] = max(f.longest[minute], time.Since(m.Timestamp))
	}
}

// TestConsumer_UnreadableBatch_IsFetchedRarely counts the fetches of a partition with an unreadable batch,
// each second for two minutes. After the first minute, at most two fetches a second are allowed. No message
// of the other partitions is late.
func TestConsumer_UnreadableBatch_IsFetchedRarely(t *testing.T) {
	for name, damage := range unreadableBatches {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { fetchedRarely(t, damage) })
		})
	}
}

func fetchedRarely(t *testing.T, damage func([]byte) []byte) {
	const unreadable, every = 10, 100 * time.Millisecond
	var mtx sync.Mutex
	var since time.Time // the unreadable batch was written
	var fetches [180]int
	b := newBubble(t, 1, 3)
	b.wires[0].Disturb(answering(func(p *kmsg.FetchResponseTopicPartition) {
		if len(p.RecordBatches) > client.BatchHeaderBytes && binary.BigEndian.Uint64(p.RecordBatches) == unreadable {
			mtx.Lock()
			defer mtx.Unlock()
			if second := int(time.Since(since) / time.Second); second < len(fetches) {
				fetches[second]++
			}
			p.RecordBatches = damage(p.RecordBatches)
		}
	}))
	cl := b.writer(t, kgo.ProducerLinger(10*time.Millisecond)) // a call of write is a batch
	log := kafkatest.NewLines()
	m := b.subscribe(t, log)
	for m.Assigned() == nil {
		time.Sleep(roundTrip)
	}
	others := &flow{start: time.Now()}
	m.run(func(m Message) {
		if m.Partition != 0 {
			others.add(m)
		}
	})
	feed := func(d time.Duration) {
		for end := time.Now().Add(d); time.Now().Before(end); {
			wake := time.After(every)
			for partition := range int32(2) {
				cl.Produce(t.Context(), &kgo.Record{Topic: "t", Partition: 1 + partition, Value: []byte("1")}, nil)
			}
			<-wake
		}
	}
	feed(time.Minute)
	write(t, cl, "t", 1, 0, unreadable)
	mtx.Lock()
	since = time.Now()
	mtx.Unlock()
	write(t, cl, "t", 1, unreadable, 20)
	feed(3 * time.Minute)

	mtx.Lock()
	defer mtx.Unlock()
	others.mtx.Lock()
	defer others.mtx.Unlock()
	t.Logf("fetches by the second: %v; the other partitions by the minute: %v messages, at most %v late", fetches, others.count, others.longest)
	for second, n := range fetches {
		if second >= 60 && n > 2 {
			t.Errorf("%d fetches of the unreadable batch in second %d", n, second)
		}
	}
	for minute := range others.count {
		if want := 2 * int(time.Minute/every); others.count[minute] < want {
			t.Errorf("%d of %d messages of the other partitions in minute %d", others.count[minute], want, minute)
		}
		if minute > 0 && others.longest[minute] > others.longest[0]+roundTrip {
			t.Errorf("messages of the other partitions come up to %s late in minute %d, %s before", others.longest[minute], minute, others.longest[0])
		}
	}
	if len(log.About("topic t partition 0: the batch of offsets 10 to 1")) == 0 {
		t.Errorf("lines: %v", log.Above(host.Warning))
	}
}

// TestConsumer_OneBrokerAway_OthersAreCompared checks that the partitions of a reachable broker are compared
// with its log while another broker is away.
func TestConsumer_OneBrokerAway_OthersAreCompared(t *testing.T) {
	ending := func(how wire.Ending) wire.Fault {
		return wire.Fault{Request: func(c *wire.Conn, _ wire.Header) { c.End(how) }}
	}
	leaderless := wire.Change(func(r *kmsg.MetadataResponse) {
		for i := range r.Topics {
			for j := range r.Topics[i].Partitions {
				if p := &r.Topics[i].Partitions[j]; p.Partition == 1 {
					p.Leader, p.ErrorCode = -1, kerr.LeaderNotAvailable.Code
				}
			}
		}
	})
	for name, faults := range map[string][2]wire.Fault{ // of the reachable and the unreachable broker
		"it closes connections": {{}, ending(wire.FIN)},
		"it is silent":          {{}, ending(wire.Silence)},
		"without a new leader":  {leaderless, ending(wire.FIN)},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) { oneBrokerAway(t, faults) })
		})
	}
}

func oneBrokerAway(t *testing.T, faults [2]wire.Fault) {
	b := newBubble(t, 2, 2)
	stays := b.CoordinatorFor("g")
	for partition, leader := range []int32{stays, 1 - stays} {
		if err := b.MoveTopicPartition("t", int32(partition), leader); err != nil {
			t.Fatal(err)
		}
	}
	log := kafkatest.NewLines()
	m := b.subscribe(t, log)
	m.run(nil)
	write(t, b.writer(t), "t", 2, 0, 5)
	m.waitFor(10)
	for i, broker := range []int32{stays, 1 - stays} {
		b.wires[broker].Disturb(wire.Of("asterisk", faults[i]))
		b.wires[broker].End(wire.FIN)
	}
	transact(t, b.Cluster, "open", []string{"5", "6"}, kgo.Dialer(b.dial), kgo.TransactionTimeout(10*time.Minute))
	time.Sleep(3 * time.Minute)
	_, v := shown(m.Consumer)
	position, stable, end := offsetOf(v, metrics.Position, 0), offsetOf(v, metrics.StableOffset, 0), offsetOf(v, metrics.HighWatermark, 0)
	if position != 5 || stable != 5 || end != 7 {
		t.Errorf("shown: position %d, stable %d, end %d", position, stable, end)
	}
	log.WaitFor(t, host.Notice, "connection my-kafka: topic t partition 0: 2 record(s) from offset 5 on wait for the end of an open transaction, for ")
}
