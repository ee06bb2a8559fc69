package scenario

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"reskafka/test/apache"
	"reskafka/test/pbx"
)

// broker is what a world produces to.
type broker interface {
	stop() error
	start() error // again, where it was, with what it had
}

// embedded is the kind of broker that there always is.
const embedded = "embedded"

// kinds lists the brokers that everywhere runs a test against: the embedded one, and Apache Kafka in the versions that
// RES_KAFKA_APACHE names, as name=folder:name=folder.
func kinds() []string {
	names := []string{embedded}
	for entry := range strings.SplitSeq(os.Getenv("RES_KAFKA_APACHE"), ":") {
		if name, _, ok := strings.Cut(entry, "="); ok {
			names = append(names, name)
		}
	}
	return names
}

// everywhere runs a test against each kind of broker.
func everywhere(t *testing.T, test func(t *testing.T, on string)) {
	for _, kind := range kinds() {
		t.Run(kind, func(t *testing.T) { test(t, kind) })
	}
}

// startBroker starts a broker of that kind, whose new topics have so many partitions; 0 = its default.
func (w *world) startBroker(kind string, partitions int) {
	w.Helper()
	dir := filepath.Join(w.dir, "broker")
	if kind == "" || kind == embedded {
		b := &embeddedBroker{config: pbx.BrokerConfig{Command: filepath.Join(os.Getenv("RES_KAFKA_BUILD"), "reskafka"), Dir: dir, Partitions: partitions}, world: w}
		if err := b.start(); err != nil {
			w.Fatal(err)
		}
		w.broker, w.address = b, b.running.Address
		w.Cleanup(func() { _ = b.stop() })
		return
	}
	config := apache.Config{Dir: dir, Properties: map[string]string{"auto.create.topics.enable": "true"}}
	for entry := range strings.SplitSeq(os.Getenv("RES_KAFKA_APACHE"), ":") {
		if name, folder, _ := strings.Cut(entry, "="); name == kind {
			config.Kafka = folder
		}
	}
	if partitions > 0 {
		config.Properties["num.partitions"] = strconv.Itoa(partitions)
	}
	cluster, err := apache.Start(w.ctx, config)
	if err != nil {
		w.Fatal(err)
	}
	w.broker, w.address = &apacheBroker{cluster, w}, cluster.Brokers(apache.Plaintext.Name)
	w.Cleanup(func() { _ = cluster.Close() })
}

type embeddedBroker struct {
	config  pbx.BrokerConfig
	world   *world
	running *pbx.Broker
}

func (b *embeddedBroker) start() (err error) {
	if b.running, err = pbx.StartBroker(b.world.ctx, b.config); err == nil {
		b.config.Port, err = strconv.Atoi(b.running.Address[strings.LastIndex(b.running.Address, ":")+1:])
	}
	return err
}

func (b *embeddedBroker) stop() error { return b.running.Stop() }

type apacheBroker struct {
	cluster *apache.Cluster
	world   *world
}

func (b *apacheBroker) stop() error  { return b.cluster.Stop(b.world.ctx, 1) }
func (b *apacheBroker) start() error { return b.cluster.Restart(b.world.ctx, 1) }
