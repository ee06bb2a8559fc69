// Package options verifies an effect visible outside for every option of kafka.conf: on the wire, in the
// broker's log or in the engine's behaviour. Rows is the table. Each row's observation is made twice: with
// the option's line in the file the effect must occur, and without the line, as for an ignored option, the
// effect must be absent. documentation/options-tested.md is generated from the table.
package options

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/consume"
	"reskafka/test/wire"
	"reskafka/test/world"
)

// patience is the limit of an observation's wait; only a failing observation reaches the limit.
const patience = 60 * time.Second

// unseen is the error of a complete observation without the effect. Any other error, such as a failed start
// of the broker, says nothing about the option.
type unseen struct{ text string }

func (e *unseen) Error() string { return e.text }

func unseenf(format string, args ...any) error { return &unseen{fmt.Sprintf(format, args...)} }

// World is the environment of one observation: a broker, its clients, and an engine with the connection
// "tested" and further connections of the observation.
type World struct {
	*world.World
	Wire    *wire.Wire
	Brokers string            // the value of the option brokers
	Kafka   *kfake.Cluster    // nil for Apache Kafka
	vars    map[string]string // the values of $name in a row's lines
	shown   <-chan string     // certificates presented to the broker

	general []string // lines of section [general]
	tested  []string // lines of section [tested], without brokers and type
}

// Broker is the broker of one observation.
type Broker struct {
	Wire    *wire.Wire // fresh
	Address string
	Kafka   *kfake.Cluster // nil for Apache Kafka

	// Logged waits for a new line of the broker's log; nil without a log.
	Logged func(ctx context.Context, pattern string) error
}

// MakeBroker returns a broker with the topic, one partition and no records. Options are for the embedded
// broker.
type MakeBroker func(t testing.TB, topic string, options ...kfake.Opt) *Broker

// Fake starts an embedded broker.
func Fake(t testing.TB, topic string, options ...kfake.Opt) *Broker {
	t.Helper()
	watched := wire.New()
	listen := func(network, address string) (net.Listener, error) {
		l, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		return watched.Listen(l), nil
	}
	// Groups may have the short session timeouts of tests.
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.ListenFn(listen), kfake.SeedTopics(1, topic), kfake.GroupMinSessionTimeout(time.Second),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return &Broker{Wire: watched, Address: cluster.ListenAddrs()[0], Kafka: cluster}
}

// newWorld starts an engine for the time of the test.
func newWorld(t testing.TB, broker *Broker, topic string) *World {
	return &World{World: world.New(t, topic, "", patience), Wire: broker.Wire, Brokers: broker.Address, Kafka: broker.Kafka}
}

// configure puts a configuration in force: the connection "tested", and the other sections.
func (w *World) configure(others ...string) error {
	tested := append([]string{"[tested]"}, w.tested...)
	text := strings.Join(append([]string{"[general]"}, w.general...), "\n") + "\n" + strings.Join(tested, "\n") + "\n" +
		strings.Join(others, "\n")
	if err := w.World.Configure(os.Expand(text, w.value)); err != nil {
		return unseenf("%v", err)
	}
	return nil
}

// value returns the value of $name in a row.
func (w *World) value(name string) string {
	if name == "brokers" {
		return w.Brokers
	}
	return w.vars[name]
}

// section is a connection for comparison. Its client id is its name.
func section(name string, lines ...string) string {
	lines = append([]string{"[" + name + "]", "type = connection", "brokers = $brokers", "client_id = " + name}, lines...)
	return strings.Join(lines, "\n")
}

// produce configures, opens the producer of "tested" and stages records with values.
func (w *World) produce(values ...string) (*Stage, error) {
	if err := w.configure(); err != nil {
		return nil, err
	}
	s, err := w.open("tested")
	if err == nil {
		s.Put(values...)
	}
	return s, err
}

// delivered is produce with a wait for every record's outcome.
func (w *World) delivered(values ...string) (*Stage, error) {
	s, err := w.produce(values...)
	if err == nil {
		_, err = s.Settled()
	}
	return s, err
}

// Stage is a producer of an observation's world.
type Stage struct {
	*world.Producer
	w *World
}

// open opens a connection's producer.
func (w *World) open(name string) (*Stage, error) {
	p, err := w.World.Open(name)
	if err != nil {
		return nil, unseenf("%v", err)
	}
	return &Stage{p, w}, nil
}

// delivered waits until the records put so far are acknowledged; an unusable broker means no effect.
func (s *Stage) delivered() error {
	err := s.w.Until("the record has its outcome or the broker fails", func() bool {
		return s.HeldFrames.Load() == 0 || len(s.w.Log.With("connection tested: broker ")) > 0
	})
	if failed := s.w.Log.With("connection tested: broker "); err == nil && len(failed) > 0 {
		return unseenf("%s", failed[0])
	}
	return err
}

// request waits for a connection's first request of a kind.
func (w *World) request(client string, key kmsg.Key) (wire.Request, error) {
	return w.Wire.Await(w.Ctx, func(r wire.Request) bool { return r.Client == client && kmsg.Key(r.Key()) == key })
}

// subscribe consumes the world's topic on a connection and calls back for each message.
func (w *World) subscribe(name string, callback func(consume.Message)) (*world.Subscription, error) {
	s, err := w.World.Subscribe(name, callback)
	if err != nil {
		return nil, unseenf("%v", err)
	}
	return s, nil
}

// isUnseen reports whether an observation ended without the effect.
func isUnseen(err error) bool {
	_, ok := errors.AsType[*unseen](err)
	return ok
}
