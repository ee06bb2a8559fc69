package produce

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/test/kafkatest"
)

// situation is the state of the brokers at the close of a producer.
type situation struct {
	name  string
	start func(t *testing.T, c *config.Connection) // sets the brokers
	warm  bool                                     // a record is delivered first
	then  func(t *testing.T)                       // before the records are sent
	until func(t *testing.T)                       // before the close
}

func situations() []situation {
	var cluster *kfake.Cluster
	var accepted, asked <-chan struct{}
	seeded := func(t *testing.T, c *config.Connection) {
		cluster = kafkatest.Broker(t, kfake.SeedTopics(3, "t"))
		c.Brokers = cluster.ListenAddrs()
	}
	silent := func(t *testing.T, c *config.Connection) {
		c.Brokers = make([]string, 1)
		c.Brokers[0], accepted = kafkatest.SilentServer(t)
	}
	contacted := func(t *testing.T) { kafkatest.Await(t, accepted) }
	return []situation{
		{name: "nobody listens", start: func(t *testing.T, c *config.Connection) { c.Brokers = []string{kafkatest.RefusedAddress(t)} }},
		{name: "unknown topic", start: func(t *testing.T, c *config.Connection) { c.Brokers = kafkatest.Broker(t).ListenAddrs() }},
		{name: "silent from the start", start: silent, until: contacted},
		{name: "silent in the TLS handshake", start: func(t *testing.T, c *config.Connection) {
			silent(t, c)
			c.SecurityProtocol = "ssl"
		}, until: contacted},
		{name: "silent on produce", start: seeded, warm: true,
			then:  func(t *testing.T) { _, asked = kafkatest.Hang(t, cluster, kmsg.Produce) },
			until: func(t *testing.T) { kafkatest.Await(t, asked) }},
		{name: "broker died", start: seeded, warm: true, then: func(*testing.T) { cluster.Close() }},
	}
}

// TestClose closes with records in flight: every record has exactly one outcome before the return of Close,
// in bounded time, with any behaviour of the broker.
func TestClose(t *testing.T) {
	for _, idempotent := range []bool{false, true} {
		for _, s := range situations() {
			t.Run(fmt.Sprintf("%s, idempotence %v", s.name, idempotent), func(t *testing.T) {
				c := kafkatest.Connection()
				c.Idempotence, c.SocketTimeout, c.RequestTimeout = idempotent, 2*kafkatest.Patience, 2*kafkatest.Patience
				s.start(t, c)
				p := open(t, c, nil, nil)
				if s.warm {
					kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
				}
				if s.then != nil {
					s.then(t)
				}
				const n = 2000
				o := kafkatest.ExpectOutcomes(t, n)
				p.Send(kafkatest.Numbered("t", 1, 1+n/2), time.Now().Add(time.Hour), o.Add)
				p.Send(kafkatest.Numbered("t", 1+n/2, 1+n), time.Time{}, o.Add)
				if s.until != nil {
					s.until(t)
				}
				began := time.Now()
				p.Close()
				// The limit of Close is a second; any other wait of the client takes longer than Patience.
				if took := time.Since(began); took > kafkatest.Patience {
					t.Errorf("Close took %v", took)
				}
				select {
				case <-o.Done:
				default:
					t.Fatalf("%d of %d outcomes when Close returned", len(o.Order), n)
				}
				for _, err := range o.Wait() {
					if !errors.Is(err, ErrClosed) && !(s.name == "broker died" && err != nil) {
						t.Fatalf("outcome %v", err)
					}
				}
			})
		}
	}
}

// TestCloseWithoutClient checks that Close makes the calls alone if the client library does not return.
func TestCloseWithoutClient(t *testing.T) {
	p := open(t, kafkatest.Connection(kafkatest.RefusedAddress(t)), nil, nil, func(tune *tuning) { tune.closeWait = 0 })
	o := kafkatest.ExpectOutcomes(t, 100)
	p.Send(kafkatest.Numbered("t", 0, 100), time.Now().Add(time.Hour), o.Add)
	p.Close()
	select {
	case <-o.Done: // outcomes fails on a second outcome, if the library's promises come later
	default:
		t.Fatal("outcomes are missing")
	}
}

func TestSendAfterClose(t *testing.T) {
	p := open(t, kafkatest.Connection(kafkatest.RefusedAddress(t)), nil, nil)
	p.Close()
	p.Close()
	for r, err := range kafkatest.Send(t, p, kafkatest.Numbered("t", 0, 3)...) {
		if err != ErrClosed {
			t.Errorf("record %s: %v", r.Value, err)
		}
	}
}

// TestCloseDuringSend closes while another goroutine sends.
func TestCloseDuringSend(t *testing.T) {
	p := open(t, kafkatest.Connection(kafkatest.RefusedAddress(t)), nil, nil)
	const batches, size = 50, 20
	o := kafkatest.ExpectOutcomes(t, batches*size)
	started := make(chan struct{})
	go func() {
		for i := range batches {
			p.Send(kafkatest.Numbered("t", i*size, (i+1)*size), time.Now().Add(time.Hour), o.Add)
			if i == 0 {
				close(started)
			}
		}
	}()
	<-started
	p.Close()
	o.Wait()
}
