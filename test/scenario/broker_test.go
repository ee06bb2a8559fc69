package scenario

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"

	"reskafka/test/apache"
	"reskafka/test/confine"
	"reskafka/test/pbx"
	"reskafka/test/port"
)

// broker is the target of a world's records.
type broker interface {
	stop() error
	start() error // again, at the same address, with the same data
}

// embedded names the broker inside the test process.
const embedded = "embedded"

// kind is a cluster to run scenarios against: a version of Kafka and a number of brokers, written 4.x_3. The
// zero value is one embedded broker.
type kind struct {
	version string // embedded, or a name in RES_KAFKA_APACHE
	brokers int
}

func (k kind) String() string { return fmt.Sprintf("%s_%d", k.version, k.brokers) }

func (k kind) embedded() bool { return k.version == "" || k.version == embedded }

// versions returns the folders of Apache Kafka in RES_KAFKA_APACHE (name=folder:name=folder), in the same
// order.
func versions() (names []string, folders map[string]string) {
	folders = map[string]string{}
	for entry := range strings.SplitSeq(os.Getenv("RES_KAFKA_APACHE"), ":") {
		if name, folder, ok := strings.Cut(entry, "="); ok {
			names, folders[name] = append(names, name), folder
		}
	}
	return names, folders
}

// kinds lists the clusters for everywhere: the embedded broker, and each version of Apache Kafka, alone and
// three together.
func kinds() []kind {
	names, _ := versions()
	all := []kind{{embedded, 1}, {embedded, 3}}
	for _, name := range names {
		all = append(all, kind{name, 1}, kind{name, 3})
	}
	return all
}

// everywhere runs a scenario against each kind of cluster, against several at a time. Clusters of Apache Kafka are shared
// with other scenarios: topics and groups are named by world.name.
func everywhere(t *testing.T, test func(t *testing.T, on kind)) {
	for _, on := range kinds() {
		t.Run(on.String(), func(t *testing.T) {
			t.Parallel()
			counted(t, on)
			test(t, on)
		})
	}
}

// results counts passed and failed scenarios by kind.
var results struct {
	sync.Mutex
	passed, failed map[kind]int
}

// counted adds a test's result to its kind when the test ends.
func counted(t *testing.T, on kind) {
	t.Cleanup(func() {
		results.Lock()
		defer results.Unlock()
		if t.Failed() {
			results.failed[on]++
		} else if !t.Skipped() {
			results.passed[on]++
		}
	})
}

// TestMain ends the shared clusters and prints the number of scenarios of each kind.
func TestMain(m *testing.M) {
	confine.Main()
	results.passed, results.failed = map[kind]int{}, map[kind]int{}
	status := m.Run()
	for _, on := range kinds() {
		if passed, failed := results.passed[on], results.failed[on]; passed+failed > 0 {
			fmt.Printf("note: against %-10s %3d passed, %d failed\n", on, passed, failed)
		}
	}
	if err := closeShared(); err != nil {
		fmt.Fprintln(os.Stderr, err)
		status = 1
	}
	os.Exit(status)
}

// startBroker gives the world a cluster of the kind. partitions is the number for topics created by use, 0 =
// one. A cluster of Apache Kafka supports only one.
func (w *world) startBroker(on kind, partitions int) {
	w.Helper()
	if !on.embedded() {
		if partitions > 1 {
			w.Fatalf("%d partitions for each topic of a shared cluster", partitions)
		}
		c, err := shared(on)
		if err != nil {
			w.Fatal(err)
		}
		w.broker, w.cluster, w.address = &apacheBroker{c, w}, c, c.Brokers(apache.Plaintext.Name)
		return
	}
	ports, err := port.Free(max(on.brokers, 1))
	if err != nil {
		w.Fatal(err)
	}
	b := &embeddedBroker{world: w, config: pbx.BrokerConfig{
		Command: filepath.Join(os.Getenv("RES_KAFKA_BUILD"), "reskafka"), Dir: filepath.Join(w.dir, "broker"),
		Ports: ports, Partitions: partitions,
	}}
	if err := b.start(); err != nil {
		w.Fatal(err)
	}
	w.broker, w.address = b, b.running.Address
	w.Cleanup(func() { _ = b.stop() })
}

type embeddedBroker struct {
	config  pbx.BrokerConfig
	world   *world
	running *pbx.Broker
}

func (b *embeddedBroker) start() (err error) {
	b.running, err = pbx.StartBroker(b.world.ctx, b.config)
	return err
}

func (b *embeddedBroker) stop() error { return b.running.Stop() }

// clusters are the Apache Kafka clusters, started on first use.
var clusters struct {
	sync.Mutex
	running map[kind]*sharedCluster
	dir     string
}

type sharedCluster struct {
	once    sync.Once
	cluster *apache.Cluster
	err     error
}

// shared returns the cluster of the kind. All its nodes run, and have to run again when a scenario ends.
func shared(on kind) (*apache.Cluster, error) {
	clusters.Lock()
	if clusters.dir == "" {
		dir, err := os.MkdirTemp("", "rk")
		if err != nil {
			clusters.Unlock()
			return nil, err
		}
		clusters.dir, clusters.running = dir, map[kind]*sharedCluster{}
	}
	s := clusters.running[on]
	if s == nil {
		s = &sharedCluster{}
		clusters.running[on] = s
	}
	dir := filepath.Join(clusters.dir, on.String())
	clusters.Unlock()
	s.once.Do(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 3*patience)
		defer cancel()
		_, folders := versions()
		s.cluster, s.err = apache.Start(ctx, apache.Config{
			Dir: dir, Kafka: folders[on.version], Nodes: on.brokers, Properties: map[string]string{"auto.create.topics.enable": "true"},
		})
	})
	return s.cluster, s.err
}

// closeShared ends the shared clusters. The error names nodes that had ended early.
func closeShared() (err error) {
	for _, s := range clusters.running {
		if s.cluster != nil {
			if closing := s.cluster.Close(); closing != nil {
				err = closing
			}
		}
	}
	if clusters.dir != "" {
		_ = os.RemoveAll(clusters.dir)
	}
	return err
}

// apacheBroker stops and starts all nodes of a cluster.
type apacheBroker struct {
	cluster *apache.Cluster
	world   *world
}

func (b *apacheBroker) stop() error {
	b.world.Cleanup(func() {
		if !b.world.Failed() {
			return // the test has started the nodes again
		}
		b.kill()
		if err := b.cluster.Restart(context.Background()); err != nil {
			b.world.Error(err)
		}
	})
	b.kill()
	return nil
}

// kill ends all nodes. In an orderly end, nodes without a majority wait for minutes.
func (b *apacheBroker) kill() {
	for id := 1; id <= b.cluster.Nodes(); id++ {
		b.cluster.Kill(id)
	}
}

func (b *apacheBroker) start() error { return b.cluster.Restart(b.world.ctx) }
