package kafka

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
)

// situation is what a producer finds its brokers in when it is closed.
type situation struct {
	name  string
	start func(t *testing.T, c *config.Connection) // sets the brokers
	warm  bool                                     // one record goes through first
	then  func(t *testing.T)                       // before the records are sent
	until func(t *testing.T)                       // before the close
}

func situations() []situation {
	var cluster *kfake.Cluster
	var accepted, asked <-chan struct{}
	seeded := func(t *testing.T, c *config.Connection) {
		cluster = fakeBroker(t, kfake.SeedTopics(3, "t"))
		c.Brokers = cluster.ListenAddrs()
	}
	silent := func(t *testing.T, c *config.Connection) {
		c.Brokers = make([]string, 1)
		c.Brokers[0], accepted = silentServer(t)
	}
	contacted := func(t *testing.T) { await(t, accepted) }
	return []situation{
		{name: "nobody listens", start: func(t *testing.T, c *config.Connection) { c.Brokers = []string{refusedAddress(t)} }},
		{name: "unknown topic", start: func(t *testing.T, c *config.Connection) { c.Brokers = fakeBroker(t).ListenAddrs() }},
		{name: "silent from the start", start: silent, until: contacted},
		{name: "silent in the TLS handshake", start: func(t *testing.T, c *config.Connection) {
			silent(t, c)
			c.SecurityProtocol = "ssl"
		}, until: contacted},
		{name: "silent on produce", start: seeded, warm: true,
			then:  func(t *testing.T) { _, asked = hang(t, cluster, kmsg.Produce) },
			until: func(t *testing.T) { await(t, asked) }},
		{name: "broker died", start: seeded, warm: true, then: func(*testing.T) { cluster.Close() }},
	}
}

// TestClose closes with records under way: every one gets exactly one outcome before Close returns, in bounded time,
// whatever the broker does.
func TestClose(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		for _, s := range situations() {
			t.Run(fmt.Sprintf("%s, idempotence %v", s.name, idempotent), func(t *testing.T) {
				c := connection()
				c.Idempotence, c.SocketTimeout, c.RequestTimeout = idempotent, 2*patience, 2*patience
				s.start(t, c)
				p := open(t, c, nil, nil)
				if s.warm {
					sendAll(t, p, numbered("t", 0, 1)...)
				}
				if s.then != nil {
					s.then(t)
				}
				const n = 2000
				o := expectOutcomes(t, n)
				p.Send(numbered("t", 1, 1+n/2), time.Now().Add(time.Hour), o.add)
				p.Send(numbered("t", 1+n/2, 1+n), time.Time{}, o.add)
				if s.until != nil {
					s.until(t)
				}
				began := time.Now()
				p.Close()
				// It promises a second; whatever else it could wait for takes longer than this.
				if took := time.Since(began); took > patience {
					t.Errorf("Close took %v", took)
				}
				select {
				case <-o.done:
				default:
					t.Fatalf("%d of %d outcomes when Close returned", len(o.order), n)
				}
				for _, err := range o.wait() {
					if !errors.Is(err, ErrClosed) && !(s.name == "broker died" && err != nil) {
						t.Fatalf("outcome %v", err)
					}
				}
			})
		}
	}
}

// TestCloseWithoutClient holds that Close makes the calls itself when the client library does not come back.
func TestCloseWithoutClient(t *testing.T) {
	p := open(t, connection(refusedAddress(t)), nil, nil, func(tune *tuning) { tune.closeWait = 0 })
	o := expectOutcomes(t, 100)
	p.Send(numbered("t", 0, 100), time.Now().Add(time.Hour), o.add)
	p.Close()
	select {
	case <-o.done: // outcomes fails on a second one, should the library make its promises later
	default:
		t.Fatal("outcomes are missing")
	}
}

func TestSendAfterClose(t *testing.T) {
	p := open(t, connection(refusedAddress(t)), nil, nil)
	p.Close()
	p.Close()
	for r, err := range send(t, p, numbered("t", 0, 3)...) {
		if err != ErrClosed {
			t.Errorf("record %s: %v", r.Value, err)
		}
	}
}

// TestCloseDuringSend closes while another goroutine sends.
func TestCloseDuringSend(t *testing.T) {
	p := open(t, connection(refusedAddress(t)), nil, nil)
	const batches, size = 50, 20
	o := expectOutcomes(t, batches*size)
	started := make(chan struct{})
	go func() {
		for i := range batches {
			p.Send(numbered("t", i*size, (i+1)*size), time.Now().Add(time.Hour), o.add)
			if i == 0 {
				close(started)
			}
		}
	}()
	<-started
	p.Close()
	o.wait()
}
