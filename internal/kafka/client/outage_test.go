package client_test

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
	"reskafka/internal/kafka/client"
	"reskafka/test/kafkatest"
	"reskafka/test/port"
)

// TestOutage stops a real broker, and starts the broker again on the same port.
func TestOutage(t *testing.T) {
	away, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer away.Close()
	addr := away.Address()
	log, status := kafkatest.NewLines(), &client.Status{}
	p := open(t, kafkatest.Connection(addr), log, status)
	o := kafkatest.ExpectOutcomes(t, 10)
	p.Send(kafkatest.Numbered("t", 0, 10), time.Now().Add(time.Hour), o.Add)
	one := log.WaitFor(t, host.Warning, "connection my-kafka: broker "+addr+" cannot be reached: connection refused (see brokers; does a broker listen on that port?); records wait")
	if one.File != "client/hooks.go" || one.Line == 0 || one.Function != "Hooks.failed" {
		t.Errorf("the line's place is %s:%d %s", one.File, one.Line, one.Function)
	}
	if len(o.Order) != 0 {
		t.Errorf("%d outcomes with the broker away", len(o.Order))
	}
	cluster := kafkatest.Broker(t, kfake.ListenFn(func(string, string) (net.Listener, error) { return away.Listen() }), kfake.SeedTopics(1, "t"))
	o.AllSent()
	log.WaitFor(t, host.Notice, "connection my-kafka: broker "+addr+" is back after ")
	if n := len(log.Above(host.Notice)); n != 2 {
		t.Errorf("%d lines for one outage: %v", n, log.Above(host.Notice))
	}
	for i, r := range kafkatest.Consume(t, "t", 10, cluster.ListenAddrs()) {
		if string(r.Value) != fmt.Sprint(i) {
			t.Fatalf("offset %d holds %s", i, r.Value)
		}
	}
	if snap := status.Snapshot(); snap.Failures == 0 || snap.LastError.Broker != addr || snap.LastError.At.IsZero() {
		t.Errorf("status %+v", snap)
	}
}

// TestLibraryLog checks that the library's lines stay in the debug log, only warnings without debug.
func TestLibraryLog(t *testing.T) {
	for _, debug := range []bool{false, true} {
		cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
		c, log := kafkatest.Connection(cluster.ListenAddrs()...), kafkatest.NewLines()
		if debug {
			c.Debug = []string{"broker", "msg"}
		}
		p := open(t, c, log, nil)
		kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
		if debug {
			log.WaitFor(t, host.Debug, "connection my-kafka: broker: opening connection")
		} else if all := log.Above(host.Debug); len(all) != 0 {
			t.Errorf("a healthy connection logs %v", all)
		}
		if loud := log.Above(host.Notice); len(loud) != 0 {
			t.Errorf("above debug: %v", loud)
		}
	}
}

// TestDebugHidesThePassword checks that debug, which writes the settings and the login, never shows the
// password.
func TestDebugHidesThePassword(t *testing.T) {
	const password = "correct-horse"
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.EnableSASL(), kfake.Superuser("PLAIN", "asterisk", password))
	c, log := kafkatest.Connection(cluster.ListenAddrs()...), kafkatest.NewLines()
	c.SecurityProtocol, c.SASLMechanism, c.SASLUsername, c.SASLPassword = "sasl_plaintext", "PLAIN", "asterisk", password
	c.Debug = []string{"all"}
	kafkatest.SendAll(t, open(t, c, log, nil), kafkatest.Numbered("t", 0, 1)...)
	log.WaitFor(t, host.Debug, "conf: SASL password: ***")
	log.WaitFor(t, host.Debug, "security: ")
	for _, line := range log.Above(host.Debug) {
		if strings.Contains(line.Text, password) {
			t.Errorf("the log shows it: %s", line.Text)
		}
	}
}

func TestLongClientID(t *testing.T) {
	c, log := kafkatest.Connection("127.0.0.1:1"), kafkatest.NewLines()
	c.ClientID = strings.Repeat("a", 300)
	open(t, c, log, nil)
	log.WaitFor(t, host.Warning, "client_id is longer than 256 bytes")
}

// TestLongOutageIsFlat checks that failed attempts leave no goroutine and no connection behind.
func TestLongOutageIsFlat(t *testing.T) {
	d := &kafkatest.Door{Tries: make(chan struct{}, 1000)}
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		d.Listener = l
		return d, err
	}))
	c, status := kafkatest.Connection(cluster.ListenAddrs()...), &client.Status{}
	c.ReconnectBackoff, c.ReconnectBackoffMax, c.Idempotence = 10*time.Millisecond, 10*time.Millisecond, true
	p := open(t, c, nil, status)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	d.Cut(true)
	o := kafkatest.ExpectOutcomes(t, 100)
	p.Send(kafkatest.Numbered("t", 1, 101), time.Now().Add(time.Hour), o.Add)
	pass := func(n int) {
		for range n {
			kafkatest.Await(t, d.Tries)
		}
	}
	pass(20)
	before := runtime.NumGoroutine()
	pass(150)
	// Some goroutines belong to an attempt, and end late on a busy machine; a leak would be one for each
	// attempt.
	after, deadline := runtime.NumGoroutine(), time.Now().Add(kafkatest.Patience)
	for after > before+50 && time.Now().Before(deadline) {
		kafkatest.Await(t, d.Tries)
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
	d.Open()
	o.AllSent()
}

// TestLasting_RefusalsEnd_AreLogged has a broker that refuses a producer's needs for a while: a leader for
// the topic's partition, and a producer id. The start and the end of each refusal have a line.
func TestLasting_RefusalsEnd_AreLogged(t *testing.T) {
	for about, fault := range map[string]kfake.Fault{
		"topic t":               {Keys: []kmsg.Key{kmsg.Metadata}, Topic: "t", Err: kerr.LeaderNotAvailable, Count: -1},
		"getting a producer id": {Keys: []kmsg.Key{kmsg.InitProducerID}, Err: kerr.ClusterAuthorizationFailed, Count: -1},
	} {
		t.Run(about, func(t *testing.T) {
			t.Parallel()
			cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
			refusal := cluster.Fault(fault)
			c := kafkatest.Connection(cluster.ListenAddrs()...)
			c.Idempotence = true
			log := kafkatest.NewLines()
			p := open(t, c, log, nil)
			o := kafkatest.ExpectOutcomes(t, 1)
			p.Send(kafkatest.Numbered("t", 0, 1), time.Now().Add(time.Hour), o.Add)
			log.WaitFor(t, host.Warning, "connection my-kafka: "+about+": ")
			refusal.Remove()
			for _, err := range o.Wait() {
				if err != nil {
					t.Error(err)
				}
			}
			log.WaitFor(t, host.Notice, "connection my-kafka: "+about+" works again after ")
		})
	}
}

// TestNoNetworkAtOnce checks that the creation of a producer opens no connection.
func TestNoNetworkAtOnce(t *testing.T) {
	addr, accepted := kafkatest.SilentServer(t)
	p := open(t, kafkatest.Connection(addr), nil, nil)
	p.Close()
	select {
	case <-accepted:
		t.Error("a connection was opened")
	default:
	}
}

// TestSocketTimeout has a broker that leaves a request unanswered. kgo alone would wait for the sum of
// socket_timeout_ms and request_timeout_ms.
func TestSocketTimeout(t *testing.T) {
	cluster := kafkatest.Broker(t, kfake.SeedTopics(1, "t"))
	c, log := kafkatest.Connection(cluster.ListenAddrs()...), kafkatest.NewLines()
	c.SocketTimeout, c.RequestTimeout = 200*time.Millisecond, 10*time.Minute
	p := open(t, c, log, nil)
	kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
	release, _ := kafkatest.Hang(t, cluster, kmsg.Produce)
	o := kafkatest.ExpectOutcomes(t, 1)
	p.Send(kafkatest.Numbered("t", 1, 2), time.Now().Add(time.Hour), o.Add)
	log.WaitFor(t, host.Warning, " does not answer: timed out (see socket_timeout_ms; does the broker hang, or the network lose packets?); records wait")
	release()
	o.AllSent()
	log.WaitFor(t, host.Notice, " is back after ")
}
