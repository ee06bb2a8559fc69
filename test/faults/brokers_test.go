package faults

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/test/apache"
	"reskafka/test/child"
	"reskafka/test/pbx"
	"reskafka/test/port"
)

// brokers are the brokers of a site.
type brokers interface {
	asterisk() string // the option brokers of Asterisk's connections
	direct() string   // the same for the reader, without a proxy if possible
	stop() error
	start() error // starts again at the same place, with the same data
	freeze() error
	thaw() error
}

var errNotHere = errors.New("these brokers cannot do that")

// embedded is the development broker in a separate process.
type embedded struct {
	ctx     context.Context
	config  pbx.BrokerConfig
	running *pbx.Broker
	address string
}

func newEmbedded(t *testing.T, ctx context.Context, dir string) (*embedded, error) {
	ports, err := port.Free(1)
	if err != nil {
		return nil, err
	}
	b := &embedded{ctx: ctx, config: pbx.BrokerConfig{
		Command: filepath.Join(os.Getenv("RES_KAFKA_BUILD"), "reskafka"), Dir: filepath.Join(dir, "broker"), Ports: ports,
	}}
	if err := b.start(); err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if b.running != nil {
			_ = b.thaw()
			_ = b.stop()
		}
	})
	return b, nil
}

func (b *embedded) asterisk() string { return b.address }
func (b *embedded) direct() string   { return b.address }

func (b *embedded) start() (err error) {
	if b.running, err = pbx.StartBroker(b.ctx, b.config); err == nil {
		b.address = b.running.Address
	}
	return err
}

func (b *embedded) stop() error {
	running := b.running
	b.running = nil
	return running.Stop()
}

func (b *embedded) freeze() error { return child.Pause(b.running.PID()) }
func (b *embedded) thaw() error   { return syscall.Kill(b.running.PID(), syscall.SIGCONT) }

// gated are brokers behind a proxy for Asterisk.
type gated struct {
	brokers
	proxy *proxy
}

func (g *gated) asterisk() string { return g.proxy.address() }

// inside is the development broker in this process, behind a proxy. The reader uses the repaired proxy too.
type inside struct{ proxy *proxy }

func (b inside) asterisk() string { return b.proxy.address() }
func (b inside) direct() string   { return b.proxy.address() }
func (b inside) stop() error      { return errNotHere }
func (b inside) start() error     { return errNotHere }
func (b inside) freeze() error    { return errNotHere }
func (b inside) thaw() error      { return errNotHere }

// told is a listener with another advertised address.
type told struct {
	net.Listener
	address net.Addr
}

func (l told) Addr() net.Addr { return l.address }

// newGatedEmbedded runs the development broker's cluster in this process, where its listener can be made to tell
// clients the proxy's address.
func newGatedEmbedded(t *testing.T, dir string) (*gated, error) {
	p, err := newProxy()
	if err != nil {
		return nil, err
	}
	t.Cleanup(p.close)
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.AllowAutoTopicCreation(), kfake.DataDir(filepath.Join(dir, "broker")),
		kfake.ListenFn(func(network, address string) (net.Listener, error) {
			listener, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				return nil, err
			}
			p.aim(listener.Addr().String())
			return told{listener, p.listener.Addr()}, nil
		}))
	if err != nil {
		return nil, err
	}
	t.Cleanup(cluster.Close)
	return &gated{inside{p}, p}, nil
}

// nodes is a cluster of Apache Kafka.
type nodes struct {
	ctx     context.Context
	cluster *apache.Cluster
}

func (n *nodes) asterisk() string { return n.cluster.Brokers(apache.Plaintext.Name) }
func (n *nodes) direct() string   { return n.cluster.Brokers(apache.Internal) }
func (n *nodes) start() error     { return n.cluster.Restart(n.ctx) }

// stop ends all nodes. After an orderly end the remaining nodes would wait for a majority for minutes.
func (n *nodes) stop() error {
	for id := 1; id <= n.cluster.Nodes(); id++ {
		n.cluster.Kill(id)
	}
	return nil
}

func (n *nodes) freeze() error { return n.all(n.cluster.Pause) }
func (n *nodes) thaw() error   { return n.all(n.cluster.Resume) }

func (n *nodes) all(do func(int) error) (err error) {
	for id := 1; id <= n.cluster.Nodes(); id++ {
		err = errors.Join(err, do(id))
	}
	return err
}

// clusters are the clusters of Apache Kafka, by the number of nodes. Each starts at the first request, and
// serves one row at a time.
var clusters [4]struct {
	busy    sync.Mutex
	failed  bool // the last row did, and may have left nodes dead or frozen
	cluster *apache.Cluster
	proxy   *proxy
	dir     string
}

// apacheFolder is the folder of the first version in RES_KAFKA_APACHE, or empty.
func apacheFolder() string {
	for entry := range strings.SplitSeq(os.Getenv("RES_KAFKA_APACHE"), ":") {
		if _, path, ok := strings.Cut(entry, "="); ok {
			return path
		}
	}
	return ""
}

// warmUp starts a cluster early. After a failure the first user tries again and reports the reason.
func warmUp(count int) {
	if apacheFolder() == "" || os.Getenv("RES_KAFKA_ROOT") == "" {
		return
	}
	c := &clusters[count]
	c.busy.Lock()
	defer c.busy.Unlock()
	_ = startCluster(context.Background(), count)
}

// newApache returns a cluster for the time of the test. All nodes run.
func newApache(t *testing.T, ctx context.Context, count int) (*nodes, *proxy, error) {
	if apacheFolder() == "" {
		t.Skip("RES_KAFKA_APACHE names no Apache Kafka, and the embedded broker cannot do this")
	}
	c := &clusters[count]
	c.busy.Lock()
	t.Cleanup(func() {
		c.failed = t.Failed()
		c.busy.Unlock()
	})
	if c.cluster == nil {
		if err := startCluster(ctx, count); err != nil {
			return nil, nil, err
		}
	}
	n := &nodes{ctx, c.cluster}
	if c.failed {
		return n, c.proxy, errors.Join(n.stop(), n.start())
	}
	return n, c.proxy, nil
}

// startCluster creates and starts a cluster. The caller owns the cluster.
func startCluster(ctx context.Context, count int) (err error) {
	c := &clusters[count]
	if c.dir == "" {
		if c.dir, err = os.MkdirTemp("", "rk"); err != nil {
			return err
		}
	}
	listeners := []apache.Listener{apache.Plaintext}
	if count == 1 {
		if c.proxy == nil {
			if c.proxy, err = newProxy(); err != nil {
				return err
			}
		}
		listeners = append(listeners, apache.Listener{Name: "GATED", Protocol: "PLAINTEXT", Advertised: []string{c.proxy.address()}})
	}
	starting, cancel := context.WithTimeout(ctx, 3*patience)
	defer cancel()
	dir := filepath.Join(c.dir, strconv.FormatInt(sites.Add(1), 10))
	cluster, err := apache.Start(starting, apache.Config{Dir: dir, Kafka: apacheFolder(), Nodes: count, Listeners: listeners})
	if err != nil {
		return err
	}
	c.cluster = cluster
	if c.proxy != nil {
		c.proxy.aim(cluster.Address(1, "GATED"))
	}
	return nil
}

// closeClusters ends all clusters. The error names nodes with an earlier end.
func closeClusters() (err error) {
	for i := range clusters {
		c := &clusters[i]
		c.busy.Lock() // the cluster may be starting
		defer c.busy.Unlock()
		if c.cluster != nil {
			err = errors.Join(err, c.cluster.Close())
		}
		if c.proxy != nil {
			c.proxy.close()
		}
		if c.dir != "" {
			_ = os.RemoveAll(c.dir)
		}
	}
	return err
}

// place is where a row's brokers are.
type place string

// The places.
const (
	onEmbedded place = "embedded"
	onApache   place = "Apache Kafka"
	onThree    place = "Apache Kafka, 3 nodes"
	onSecured  place = "embedded, TLS and SASL"
)

// newBrokers starts the brokers of a site, behind a proxy if behindProxy is set.
func newBrokers(t *testing.T, ctx context.Context, on place, behindProxy bool, dir string) (brokers, error) {
	switch {
	case on == onSecured:
		return newSecured(t, dir)
	case on == onThree:
		n, _, err := newApache(t, ctx, 3)
		return n, err
	case on == onApache && behindProxy:
		n, p, err := newApache(t, ctx, 1)
		if err != nil {
			return nil, err
		}
		return &gated{n, p}, nil
	case on == onApache:
		n, _, err := newApache(t, ctx, 1)
		return n, err
	case behindProxy:
		return newGatedEmbedded(t, dir)
	default:
		return newEmbedded(t, ctx, dir)
	}
}
