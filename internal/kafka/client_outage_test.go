package kafka

import (
	"fmt"
	"net"
	"runtime"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/test/port"
)

// TestOutage loses a broker for real, and has it back on the same port.
func TestOutage(t *testing.T) {
	away, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	addr := away.Address()
	log, status := newLines(), &Status{}
	p := open(t, connection(addr), log, status)
	o := expectOutcomes(t, 10)
	p.Send(numbered("t", 0, 10), time.Now().Add(time.Hour), o.add)
	one := log.waitFor(t, host.Warning, "connection my-kafka: broker "+addr+" cannot be reached: connection refused (see brokers; does a broker listen on that port?); records wait")
	if one.file != "kafka/hooks.go" || one.line == 0 || one.function != "hooks.failed" {
		t.Errorf("the line's place is %s:%d %s", one.file, one.line, one.function)
	}
	if len(o.order) != 0 {
		t.Errorf("%d outcomes with the broker away", len(o.order))
	}
	cluster := fakeBroker(t, kfake.ListenFn(func(string, string) (net.Listener, error) { return away.Listen() }), kfake.SeedTopics(1, "t"))
	o.allSent()
	log.waitFor(t, host.Notice, "connection my-kafka: broker "+addr+" is back after ")
	if n := len(log.above(host.Notice)); n != 2 {
		t.Errorf("%d lines for one outage: %v", n, log.above(host.Notice))
	}
	for i, r := range consume(t, "t", 10, cluster.ListenAddrs()) {
		if string(r.Value) != fmt.Sprint(i) {
			t.Fatalf("offset %d holds %s", i, r.Value)
		}
	}
	if snap := status.Snapshot(); snap.Failures == 0 || snap.LastError.Broker != addr || snap.LastError.At.IsZero() {
		t.Errorf("status %+v", snap)
	}
}

// TestLibraryLog holds that the library's own lines stay in the debug log, warnings only unless debug is set.
func TestLibraryLog(t *testing.T) {
	for _, debug := range []bool{false, true} {
		cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
		c, log := connection(cluster.ListenAddrs()...), newLines()
		if debug {
			c.Debug = []string{"broker", "msg"}
		}
		p := open(t, c, log, nil)
		sendAll(t, p, numbered("t", 0, 1)...)
		if debug {
			log.waitFor(t, host.Debug, "connection my-kafka: broker: opening connection")
		} else if all := log.above(host.Debug); len(all) != 0 {
			t.Errorf("a healthy connection logs %v", all)
		}
		if loud := log.above(host.Notice); len(loud) != 0 {
			t.Errorf("above debug: %v", loud)
		}
	}
}

// TestDebugHidesThePassword holds that debug, which writes the settings and follows the login, never shows it.
func TestDebugHidesThePassword(t *testing.T) {
	const password = "correct-horse"
	cluster := fakeBroker(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "asterisk", password))
	c, log := connection(cluster.ListenAddrs()...), newLines()
	c.SecurityProtocol, c.SASLMechanism, c.SASLUsername, c.SASLPassword = "sasl_plaintext", "PLAIN", "asterisk", password
	c.Debug = []string{"all"}
	sendAll(t, open(t, c, log, nil), numbered("t", 0, 1)...)
	log.waitFor(t, host.Debug, "conf: SASL password: ***")
	log.waitFor(t, host.Debug, "security: ")
	for _, line := range log.above(host.Debug) {
		if strings.Contains(line.text, password) {
			t.Errorf("the log shows it: %s", line.text)
		}
	}
}

func TestLongClientID(t *testing.T) {
	c, log := connection("127.0.0.1:1"), newLines()
	c.ClientID = strings.Repeat("a", 300)
	open(t, c, log, nil)
	log.waitFor(t, host.Warning, "client_id is longer than 256 bytes")
}

// TestLongOutageIsFlat holds that attempts that fail leave nothing behind: no goroutine, no connection.
func TestLongOutageIsFlat(t *testing.T) {
	d := &door{tries: make(chan struct{}, 1000)}
	cluster := fakeBroker(t, kfake.SeedTopics(1, "t"), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		d.Listener = l
		return d, err
	}))
	c, status := connection(cluster.ListenAddrs()...), &Status{}
	c.ReconnectBackoff, c.ReconnectBackoffMax, c.Idempotence = 10*time.Millisecond, 10*time.Millisecond, true
	p := open(t, c, nil, status)
	sendAll(t, p, numbered("t", 0, 1)...)
	d.cut(true)
	o := expectOutcomes(t, 100)
	p.Send(numbered("t", 1, 101), time.Now().Add(time.Hour), o.add)
	pass := func(n int) {
		for range n {
			await(t, d.tries)
		}
	}
	pass(20)
	before := runtime.NumGoroutine()
	pass(150)
	// Some come and go with every attempt, and on a busy machine go late; what stays would be one for each.
	after, deadline := runtime.NumGoroutine(), time.Now().Add(patience)
	for after > before+50 && time.Now().Before(deadline) {
		await(t, d.tries)
		after = runtime.NumGoroutine()
	}
	if after > before+50 {
		t.Errorf("%d goroutines, %d before", after, before)
	}
	for _, b := range status.Snapshot().Brokers {
		if b.Connections > 10 {
			t.Errorf("%s: %d connections are kept", b.Address, b.Connections)
		}
	}
	d.open()
	o.allSent()
}

// TestLasting_RefusalsEnd_AreLogged has a broker refuse for a while what a producer needs: a leader for the topic's partition, and
// a producer id. Each has a line when it is refused and when it is not any more.
func TestLasting_RefusalsEnd_AreLogged(t *testing.T) {
	for about, fault := range map[string]kfake.Fault{
		"topic t":               {Keys: []kmsg.Key{kmsg.Metadata}, Topic: "t", Err: kerr.LeaderNotAvailable, Count: -1},
		"getting a producer id": {Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ClusterAuthorizationFailed, Count: -1},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
			refusal := cluster.Fault(fault)
			c := connection(cluster.ListenAddrs()...)
			c.Idempotence = true
			log := newLines()
			p := open(t, c, log, nil)
			o := expectOutcomes(t, 1)
			p.Send(numbered("t", 0, 1), time.Now().Add(time.Hour), o.add)
			log.waitFor(t, host.Warning, "connection my-kafka: "+about+": ")
			refusal.Remove()
			for _, err := range o.wait() {
				if err != nil {
					t.Error(err)
				}
			}
			log.waitFor(t, host.Notice, "connection my-kafka: "+about+" works again after ")
		})
	}
}

// TestNoNetworkAtOnce holds that making a producer opens no connection.
func TestNoNetworkAtOnce(t *testing.T) {
	addr, accepted := silentServer(t)
	p := open(t, connection(addr), nil, nil)
	p.Close()
	select {
	case <-accepted:
		t.Error("a connection was opened")
	default:
	}
}

// TestSocketTimeout has a broker that leaves a request unanswered. kgo by itself would wait for socket_timeout_ms and
// request_timeout_ms together.
func TestSocketTimeout(t *testing.T) {
	cluster := fakeBroker(t, kfake.SeedTopics(1, "t"))
	c, log := connection(cluster.ListenAddrs()...), newLines()
	c.SocketTimeout, c.RequestTimeout = 200*time.Millisecond, 10*time.Minute
	p := open(t, c, log, nil)
	sendAll(t, p, numbered("t", 0, 1)...)
	release, _ := hang(t, cluster, kmsg.Produce)
	o := expectOutcomes(t, 1)
	p.Send(numbered("t", 1, 2), time.Now().Add(time.Hour), o.add)
	log.waitFor(t, host.Warning, " does not answer: timed out (see socket_timeout_ms; does the broker hang, or the network lose packets?); records wait")
	release()
	o.allSent()
	log.waitFor(t, host.Notice, " is back after ")
}
