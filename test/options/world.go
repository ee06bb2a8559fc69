// Package options holds every option of kafka.conf to an effect that somebody outside can see: on the wire, in the
// broker's log or in how the engine behaves. Rows is the table; each row's observation is made twice, with the option's
// line in the file, when it must be seen, and without it, which is what ignoring the option would come to, when it must
// not. documentation/options-tested.md is made from the table.
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

// patience is how long an observation waits for what must happen; it is reached only by a failing one.
const patience = 60 * time.Second

// unseen is the error of an observation that came to its end without the effect. Any other error, a broker that does not
// start or something that never comes, says nothing about the option.
type unseen struct{ text string }

func (e *unseen) Error() string { return e.text }

func unseenf(format string, args ...any) error { return &unseen{fmt.Sprintf(format, args...)} }

// World is what one observation happens in: a broker, what reaches it, and an engine with the connection "tested" and
// whatever others the observation adds.
type World struct {
	*world.World
	Wire    *wire.Wire
	Brokers string            // what the option brokers is
	Kafka   *kfake.Cluster    // nil for Apache Kafka
	vars    map[string]string // what $name stands for in a row's lines
	shown   <-chan string     // whose certificates the broker was shown

	general []string // lines of section [general]
	tested  []string // lines of section [tested], without brokers and type
}

// Broker is what one observation is made with.
type Broker struct {
	Wire    *wire.Wire // fresh
	Address string
	Kafka   *kfake.Cluster // nil for Apache Kafka

	// Logged waits for a line of the broker's log, of which it has written nothing about the observation before; nil
	// where there is no log.
	Logged func(ctx context.Context, pattern string) error
}

// MakeBroker gives a broker that has the topic, with one partition and no records. Options are for the embedded one.
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
	// Groups may have the session timeouts that tests have time for.
	cluster, err := kfake.NewCluster(append([]kfake.Opt{
		kfake.NumBrokers(1), kfake.ListenFn(listen), kfake.SeedTopics(1, topic), kfake.GroupMinSessionTimeout(time.Second),
	}, options...)...)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	return &Broker{Wire: watched, Address: cluster.ListenAddrs()[0], Kafka: cluster}
}

// newWorld starts an engine that the test's end stops.
func newWorld(t testing.TB, broker *Broker, topic string) *World {
	return &World{World: world.New(t, topic, "", patience), Wire: broker.Wire, Brokers: broker.Address, Kafka: broker.Kafka}
}

// configure puts a configuration in force: the connection "tested", and other sections as they are given.
func (w *World) configure(others ...string) error {
	tested := append([]string{"[tested]"}, w.tested...)
	text := strings.Join(append([]string{"[general]"}, w.general...), "\n") + "\n" + strings.Join(tested, "\n") + "\n" +
		strings.Join(others, "\n")
	if err := w.World.Configure(os.Expand(text, w.value)); err != nil {
		return unseenf("%v", err)
	}
	return nil
}

// value is what $name stands for in a row.
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

// produce configures, opens the producer of "tested" and hands it records with values.
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

// delivered is produce, and waits until every record has its outcome.
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

// delivered waits until the records put so far are acknowledged; a broker that cannot be used is the effect's absence.
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

// isUnseen says whether an observation ended without the effect.
func isUnseen(err error) bool {
	_, ok := errors.AsType[*unseen](err)
	return ok
}
