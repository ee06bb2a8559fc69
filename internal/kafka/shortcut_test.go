package kafka

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/outbox"
)

// clock is one that a test sets, so that nothing depends on how fast the machine is.
type clock struct{ at atomic.Int64 }

func newClock() *clock {
	c := &clock{}
	c.at.Store(time.Now().UnixNano())
	return c
}

func (c *clock) now() time.Time        { return time.Unix(0, c.at.Load()) }
func (c *clock) pass(by time.Duration) { c.at.Add(int64(by)) }
func (c *clock) of(tune *tuning)       { tune.now = c.now }
func (c *clock) producer(t *testing.T, to *config.Connection, log host.Logger, status *Status) *Producer {
	t.Helper()
	return open(t, to, log, status, c.of)
}

// shortcutOf is the shortcut to the one broker there is, nil if there is none, and how many requests have taken it.
func shortcutOf(p *Producer) (s *shortcut, requests int32) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	for _, n := range p.nodes {
		if n.shortcut != nil {
			return n.shortcut, n.shortcut.number
		}
	}
	return nil, 0
}

// mustTake fails unless so many requests have taken the shortcut.
func mustTake(t *testing.T, p *Producer, want int32) {
	t.Helper()
	if s, got := shortcutOf(p); s == nil || got != want {
		t.Fatalf("%d requests took the shortcut %v, want %d", got, s != nil, want)
	}
}

// TestShortcut holds which requests take the shortcut, and that the records of all arrive in order, each once.
func TestShortcut(t *testing.T) {
	bothKinds(t, func(t *testing.T, idempotence bool) {
		cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
		c := connection(cluster.ListenAddrs()...)
		c.Idempotence = idempotence
		time := newClock()
		p := time.producer(t, c, nil, nil)
		sendAll(t, p, numbered("t", 0, 1)...)
		mustTake(t, p, 0) // the library makes the connection
		for i := 1; i <= 10; i++ {
			sendAll(t, p, numbered("t", i, i+1)...)
			mustTake(t, p, int32(i))
		}
		time.pass(shortcutFor)
		sendAll(t, p, numbered("t", 11, 12)...)
		mustTake(t, p, 10) // it is the library's turn
		sendAll(t, p, numbered("t", 12, 13)...)
		mustTake(t, p, 11)
		large := numbered("t", 13, 14)
		large[0].Key = bytes.Repeat([]byte("k"), quickMost)
		sendAll(t, p, large...)
		mustTake(t, p, 11)
		sendAll(t, p, numbered("t", 14, 15)...)
		mustTake(t, p, 12)
		once(t, cluster, 15)
	})
}

// TestNoShortcut holds that there is none for requests that are not answered, nor where the library's lines are wanted.
func TestNoShortcut(t *testing.T) {
	for name, without := range map[string]func(c *config.Connection){
		"acks = 0":         func(c *config.Connection) { c.Acks = 0 },
		"debug = protocol": func(c *config.Connection) { c.Debug = []string{"protocol"} },
	} {
		t.Run(name, func(t *testing.T) {
			cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
			c := connection(cluster.ListenAddrs()...)
			without(c)
			p := newClock().producer(t, c, newLines(), nil)
			for i := range 3 {
				sendAll(t, p, numbered("t", i, i+1)...)
			}
			if s, _ := shortcutOf(p); s != nil {
				t.Error("there is a shortcut")
			}
			once(t, cluster, 3)
		})
	}
}

// TestShortcutIsCut holds that records arrive, each once, when the connection ends while nothing is under way, and that the
// administrator hears of it.
func TestShortcutIsCut(t *testing.T) {
	bothKinds(t, func(t *testing.T, idempotence bool) {
		cluster, network := newLossyBroker(t, kfake.SeedTopics(1, "t"))
		c := connection(cluster.ListenAddrs()...)
		c.Idempotence = idempotence
		log := newLines()
		p := open(t, c, log, nil)
		for i := range 3 {
			sendAll(t, p, numbered("t", i, i+1)...)
		}
		network.cut()
		sendAll(t, p, numbered("t", 3, 4)...)
		for i := 4; i < 7; i++ {
			sendAll(t, p, numbered("t", i, i+1)...)
		}
		once(t, cluster, 7)
		log.waitFor(t, host.Warning, "does not answer")
		log.waitFor(t, host.Notice, "is back")
	})
}

// TestShortcutLosesAnAnswer holds that with idempotence a record whose answer is lost on the shortcut arrives once.
func TestShortcutLosesAnAnswer(t *testing.T) {
	cluster, network := newLossyBroker(t, kfake.SeedTopics(1, "t"))
	c := connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	status := &Status{}
	p := open(t, c, nil, status)
	sendAll(t, p, numbered("t", 0, 1)...)
	if s, _ := shortcutOf(p); s == nil {
		t.Fatal("there is no shortcut")
	}
	network.lose(true)
	o := expectOutcomes(t, 2)
	p.Send(numbered("t", 1, 2), time.Time{}, o.add)
	await(t, network.lost)
	p.Send(numbered("t", 2, 3), time.Time{}, o.add)
	network.lose(false)
	network.cut()
	o.allSent()
	once(t, cluster, 3)
	if snap := status.Snapshot(); snap.Retried == 0 || snap.LastError.Text == "" {
		t.Errorf("the status is %+v", snap)
	}
}

// TestShortcut_Throttled_WaitsAndGoesOn checks that nothing is sent in a pause, which lasts a minute here so that a busy machine
// does not outlast it, and that the producer goes on after one that is short.
func TestShortcut_Throttled_WaitsAndGoesOn(t *testing.T) {
	t.Run("waits", func(t *testing.T) { shortcutThrottled(t, 60_000, true) })
	t.Run("goes on", func(t *testing.T) { shortcutThrottled(t, 50, false) })
}

func shortcutThrottled(t *testing.T, millis int32, waits bool) {
	cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
	clock := newClock()
	p := clock.producer(t, connection(cluster.ListenAddrs()...), nil, nil)
	sendAll(t, p, numbered("t", 0, 1)...)
	cluster.ControlKey(int16(kmsg.Produce), func(request kmsg.Request) (kmsg.Response, error, bool) {
		asked := request.(*kmsg.ProduceRequest)
		answer := asked.ResponseKind().(*kmsg.ProduceResponse)
		answer.ThrottleMillis = millis
		topic := kmsg.NewProduceResponseTopic()
		topic.Topic, topic.TopicID = asked.Topics[0].Topic, asked.Topics[0].TopicID
		topic.Partitions = append(topic.Partitions, kmsg.NewProduceResponseTopicPartition())
		answer.Topics = append(answer.Topics, topic)
		return answer, nil, true
	})
	sendAll(t, p, numbered("t", 1, 2)...)
	mustTake(t, p, 1)
	o := expectOutcomes(t, 1)
	p.Send(numbered("t", 2, 3), time.Time{}, o.add)
	if !waits {
		clock.pass(time.Duration(millis) * time.Millisecond)
		o.allSent()
		return
	}
	p.mtx.Lock()
	defer p.mtx.Unlock()
	for _, n := range p.nodes {
		due := n.resume.Sub(clock.now())
		if n.flights != 0 || n.paused == nil || due <= 0 || due > time.Duration(millis)*time.Millisecond {
			t.Errorf("%d requests are under way, the next is due in %v", n.flights, due)
		}
	}
}

// TestShortcutAmongLargeOnes holds that order and number are kept while requests change between the two ways.
func TestShortcutAmongLargeOnes(t *testing.T) {
	bothKinds(t, func(t *testing.T, idempotence bool) {
		const many = 200
		cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
		c := connection(cluster.ListenAddrs()...)
		c.Idempotence = idempotence
		p := newClock().producer(t, c, nil, nil)
		o := expectOutcomes(t, many)
		for i := range many {
			records := numbered("t", i, i+1)
			if i%10 > 5 { // enough for another request beside one that is under way
				records[0].Key = make([]byte, fullRequest/2)
			}
			p.Send(records, time.Time{}, o.add)
			if i%10 == 0 {
				soon(t, "the broker has it", func() bool { return p.Underway() == 0 })
			}
		}
		o.allSent()
		once(t, cluster, many)
		_, n := shortcutOf(p)
		t.Logf("%d requests took the shortcut", n)
	})
}

// TestShortcutsAnswers holds what is taken for an answer, and that a connection with another is given up, which the library
// hears when it is to write there.
func TestShortcutsAnswers(t *testing.T) {
	answer := func(number int32, body ...byte) []byte {
		bytes := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
		return append(binary.BigEndian.AppendUint32(bytes, uint32(number)), body...)
	}
	empty := []byte{0, 1, 0, 0, 0, 0, 0} // of version 9: no tags in its head, no topics, no throttle, no tags
	for name, test := range map[string]struct {
		pieces [][]byte
		fault  string // "" = none
	}{
		"right":                    {[][]byte{answer(1, empty...)}, ""},
		"right, in pieces":         {[][]byte{answer(1, empty...)[:3], answer(1, empty...)[3:5], answer(1, empty...)[5:]}, ""},
		"to another request":       {[][]byte{answer(2, empty...)}, "the answer to request 2 "},
		"more than one":            {[][]byte{append(answer(1, empty...), 0)}, "1 bytes behind an answer"},
		"without a number":         {[][]byte{{0, 0, 0, 2, 0, 0}}, "the answer to request 0 "},
		"without what is its head": {[][]byte{answer(1)}, "did not contain enough data"},
		"without what it tells":    {[][]byte{answer(1, 0, 7)}, "did not contain enough data"},
		"too long":                 {[][]byte{{'H', 'T', 'T', 'P', '/'}}, "an answer of 1213486160 bytes"},
		"ends in the middle":       {[][]byte{answer(1, empty...)[:6]}, io.EOF.Error()},
		"none":                     {nil, io.EOF.Error()},
	} {
		t.Run(name, func(t *testing.T) {
			conn, other := net.Pipe()
			go func() {
				defer other.Close()
				var length [4]byte
				if _, err := io.ReadFull(other, length[:]); err != nil {
					t.Error(err)
				}
				if _, err := io.CopyN(io.Discard, other, int64(binary.BigEndian.Uint32(length[:]))); err != nil {
					t.Error(err)
				}
				for _, piece := range test.pieces {
					if _, err := other.Write(piece); err != nil {
						t.Error(err)
					}
				}
			}()
			all := &shortcuts{conns: map[int32]*boundedConn{}}
			bounded := &boundedConn{Conn: conn, silence: patience, shortcuts: all}
			bounded.version.Store(9)
			all.opened(bounded)
			s := &shortcut{conn: bounded, format: kmsg.NewRequestFormatter()}
			f := &flight{node: &node{}}
			response, err := s.exchange(&produceRequest{kmsg.NewPtrProduceRequest(), f})
			if f.state.Load() != departed {
				t.Error("it is not known to be written")
			}
			if test.fault == "" {
				if err != nil || response == nil || all.to(0) != bounded {
					t.Fatalf("%v, %v", response, err)
				}
				return
			}
			if err == nil || !strings.Contains(err.Error(), test.fault) || errors.Is(err, errNotWritten) {
				t.Fatalf("the error is %v", err)
			}
			if n, told := bounded.Write([]byte("12345678")); n != 0 || !errors.Is(told, err) {
				t.Errorf("the library hears %v", told)
			}
			if _, err := conn.Write([]byte("x")); !errors.Is(err, io.ErrClosedPipe) || all.to(0) != nil {
				t.Errorf("the connection is still there: %v", err)
			}
		})
	}
}

// TestShortcutNotWritten holds that the library is given what could not be written at all.
func TestShortcutNotWritten(t *testing.T) {
	cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
	status := &Status{}
	p := newClock().producer(t, connection(cluster.ListenAddrs()...), nil, status)
	sendAll(t, p, numbered("t", 0, 1)...)
	s, _ := shortcutOf(p)
	if s == nil {
		t.Fatal("there is no shortcut")
	}
	_ = s.conn.Conn.Close()
	sendAll(t, p, numbered("t", 1, 2)...)
	if next, _ := shortcutOf(p); next == s || next == nil {
		t.Error("the shortcut is the one that was closed, or there is none")
	}
	if n := status.Snapshot().Retried; n != 0 {
		t.Errorf("%d records were sent again", n)
	}
	once(t, cluster, 2)
}

// underWay is how many requests the one broker owes answers to, and whether one of them takes the shortcut.
func underWay(p *Producer) (flights int, short bool) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	for _, n := range p.nodes {
		return n.flights, n.alone
	}
	return 0, false
}

// TestShortcutIsTakenAlone holds that no other request is under way with one that takes the shortcut, whichever is first: there
// is nobody to tell their answers apart.
func TestShortcutIsTakenAlone(t *testing.T) {
	cluster := fakeBroker(t, kfake.SeedTopics(1, "t", "other"))
	c := connection(cluster.ListenAddrs()...)
	c.BatchSize = fullRequest + 1000
	p := newClock().producer(t, c, nil, nil)
	full := func(topic string, from int) []*outbox.Record {
		records := numbered(topic, from, from+1)
		records[0].Key = make([]byte, fullRequest+920) // a batch of its own
		return records
	}
	sendAll(t, p, numbered("t", 0, 1)...)
	sendAll(t, p, numbered("other", 0, 1)...)
	mustTake(t, p, 1)
	expect := func(when string, flights int, short bool) {
		t.Helper()
		if n, is := underWay(p); n != flights || is != short {
			t.Errorf("%s: %d under way, by the shortcut %v; want %d, %v", when, n, is, flights, short)
		}
	}
	expect("nothing to do", 0, false)

	release, asked := hang(t, cluster, kmsg.Produce)
	first := expectOutcomes(t, 2)
	p.Send(numbered("t", 1, 2), time.Time{}, first.add)
	await(t, asked)
	p.Send(full("other", 1), time.Time{}, first.add)
	expect("a short one, then a full one", 1, true)
	release()
	first.allSent()
	soon(t, "all has landed", func() bool { n, _ := underWay(p); return n == 0 })
	expect("all is done", 0, false)

	release, asked = hang(t, cluster, kmsg.Produce)
	second := expectOutcomes(t, 3)
	p.Send(full("other", 2), time.Time{}, second.add)
	await(t, asked)
	p.Send(append(numbered("t", 2, 3), full("t", 3)...), time.Time{}, second.add)
	expect("a full one, then a short one with much behind it", 2, false)
	release()
	second.allSent()
	once(t, cluster, 4)
}

// TestShortcutOfClosed holds that a request that still waits for its turn on the shortcut does not bring a broker the records that
// Close hands back.
func TestShortcutOfClosed(t *testing.T) {
	cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
	p := newClock().producer(t, connection(cluster.ListenAddrs()...), nil, nil)
	sendAll(t, p, numbered("t", 0, 1)...)
	told, release := make(chan struct{}), make(chan struct{})
	p.Send(numbered("t", 1, 2), time.Time{}, func(*outbox.Record, error) {
		close(told)
		<-release
	})
	await(t, told) // whoever carries the next one is held up
	o := expectOutcomes(t, 1)
	p.Send(numbered("t", 2, 3), time.Time{}, func(r *outbox.Record, err error) {
		close(release) // Close has not closed the connection yet
		soon(t, "the request has landed", func() bool { n, _ := underWay(p); return n == 0 })
		o.add(r, err)
	})
	if n, short := underWay(p); n != 1 || !short {
		t.Fatalf("%d under way, by the shortcut %v", n, short)
	}
	p.Close()
	o.returned()
	once(t, cluster, 2)
}

// TestShortcutAfterASlowAnswer holds that the time for the shortcut counts from when the library was given a request: it has looked
// then, and not later, whether the login is about to end.
func TestShortcutAfterASlowAnswer(t *testing.T) {
	cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
	clock := newClock()
	p := clock.producer(t, connection(cluster.ListenAddrs()...), nil, nil)
	release, asked := hang(t, cluster, kmsg.Produce)
	o := expectOutcomes(t, 1)
	p.Send(numbered("t", 0, 1), time.Time{}, o.add)
	await(t, asked)
	clock.pass(shortcutFor)
	release()
	o.allSent()
	sendAll(t, p, numbered("t", 1, 2)...)
	mustTake(t, p, 0)
	sendAll(t, p, numbered("t", 2, 3)...)
	mustTake(t, p, 1)
	once(t, cluster, 3)
}

// TestShortcutTellsOfItsEnd holds that the administrator hears at once why a request that took the shortcut has failed, though the
// library is given no other for that broker, and hears it once.
func TestShortcutTellsOfItsEnd(t *testing.T) {
	cluster, network := newLossyBroker(t, kfake.SeedTopics(1, "t"))
	c := connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	log, status, clock := newLines(), &Status{}, newClock()
	p := clock.producer(t, c, log, status)
	sendAll(t, p, numbered("t", 0, 1)...)
	if s, _ := shortcutOf(p); s == nil {
		t.Fatal("there is no shortcut")
	}
	connections := func() (n int) {
		for _, b := range status.Snapshot().Brokers {
			n += b.Connections
		}
		return n
	}
	before := connections()
	network.lose(true)
	o := expectOutcomes(t, 1)
	p.Send(numbered("t", 1, 2), time.Time{}, o.add)
	await(t, network.lost)
	network.cut()
	log.waitFor(t, host.Warning, "does not answer") // no time passes: nothing is sent again yet
	if now := connections(); now != before-1 {
		t.Errorf("%d connections, there were %d", now, before)
	}
	if snap := status.Snapshot(); snap.Failures != 1 || snap.LastError.Text == "" {
		t.Errorf("the status is %+v", snap)
	}
	// The line comes before the request has landed. What lands later than the time passes is not due for as long as this clock stands.
	soon(t, "the request has landed", func() bool { return flying(p) == 0 })
	network.lose(false)
	network.cut()
	clock.pass(retryBackoffMax)
	o.allSent()
	log.waitFor(t, host.Notice, "is back")
	once(t, cluster, 2)
	status.mtx.Lock()
	defer status.mtx.Unlock()
	for addr, b := range status.brokers {
		if len(b.gone) != 0 {
			t.Errorf("%s: %d connections are waited for", addr, len(b.gone))
		}
	}
}

// newDoor is a cluster's listener that can be shut.
func newDoor(t *testing.T, opts ...kfake.Opt) (*kfake.Cluster, *door) {
	d := &door{tries: make(chan struct{}, 100)}
	return fakeBroker(t, append(opts, kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		d.Listener = l
		return d, err
	}))...), d
}

// TestShortcutNotWrittenCanBeRecalled holds that a record of which the shortcut could write nothing is not taken for one that a
// broker may have while the library makes another connection.
func TestShortcutNotWrittenCanBeRecalled(t *testing.T) {
	cluster, d := newDoor(t, kfake.SeedTopics(1, "t"))
	c := connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	p := newClock().producer(t, c, nil, nil)
	sendAll(t, p, numbered("t", 0, 1)...)
	s, _ := shortcutOf(p)
	if s == nil {
		t.Fatal("there is no shortcut")
	}
	d.cut(true)
	_ = s.conn.Conn.Close()
	o := expectOutcomes(t, 1)
	p.Send(numbered("t", 1, 2), time.Time{}, o.add)
	await(t, d.tries) // the library has begun to make a connection
	p.Recall()
	o.returned()
	d.open()
	once(t, cluster, 1)
}

// TestShortcutLostLeavesOthersAlone holds that what is to follow a request that was lost on the shortcut is not taken for what a
// broker may have because the library has still to hear that the connection is gone.
func TestShortcutLostLeavesOthersAlone(t *testing.T) {
	cluster, d := newDoor(t, kfake.SeedTopics(1, "t", "other"))
	c := connection(cluster.ListenAddrs()...)
	c.Idempotence = true
	clock := newClock()
	p := clock.producer(t, c, nil, nil)
	sendAll(t, p, numbered("t", 0, 1)...)
	sendAll(t, p, numbered("other", 0, 1)...)
	mustTake(t, p, 1)
	_, asked := hang(t, cluster, kmsg.Produce)
	lost, other := expectOutcomes(t, 1), expectOutcomes(t, 1)
	p.Send(numbered("t", 1, 2), time.Time{}, lost.add)
	await(t, asked)
	p.Send(numbered("other", 1, 2), time.Time{}, other.add)
	d.cut(true)
	soon(t, "the request is given up", func() bool { n, _ := underWay(p); return n == 0 })
	clock.pass(retryBackoffMax)
	await(t, d.tries)
	p.Recall()
	other.returned()
	if n := p.Underway(); n != 1 {
		t.Errorf("%d batches may be with the broker", n)
	}
}
