// Package options repeats the observations of test/options with Apache Kafka, where the broker matters.
package options

import (
	"context"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/test/apache"
	"reskafka/test/options"
	"reskafka/test/wire"
)

// TestOptions runs the rows of test/options for Apache Kafka, one after another on one node.
func TestOptions(t *testing.T) {
	list := os.Getenv("RES_KAFKA_APACHE")
	if list == "" {
		t.Skip(`RES_KAFKA_APACHE is not set, for example to "4.x=$(scripts/provision-kafka 4)"`)
	}
	for entry := range strings.SplitSeq(list, ":") {
		name, kafka, _ := strings.Cut(entry, "=")
		t.Run(name, func(t *testing.T) {
			n := start(t, kafka)
			for i := range options.Rows {
				row := &options.Rows[i]
				if row.Apache {
					t.Run(row.Name(), func(t *testing.T) { row.Check(t, n.broker, false) })
				}
			}
		})
	}
}

// node is a node of Apache Kafka behind a proxy.
type node struct {
	cluster *apache.Cluster
	proxy   *wire.Proxy
	admin   *kadm.Client
}

func start(t *testing.T, kafka string) *node {
	t.Helper()
	proxy, err := wire.NewProxy()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(proxy.Close)
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	listener := apache.Plaintext
	listener.Advertised = []string{proxy.Address}
	cluster, err := apache.Start(ctx, apache.Config{
		Dir: t.TempDir(), Kafka: kafka, Listeners: []apache.Listener{listener},
		Loggers: map[string]string{"kafka.request.logger": "DEBUG"},
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := cluster.Close(); err != nil {
			t.Error(err)
		}
	})
	client, err := kgo.NewClient(kgo.SeedBrokers(cluster.Address(1, apache.Internal)), kgo.ClientID("the test"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	return &node{cluster, proxy, kadm.NewClient(client)}
}

// broker makes a topic on the node.
func (n *node) broker(t testing.TB, topic string, _ ...kfake.Opt) *options.Broker {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	if _, err := n.admin.CreateTopic(ctx, 1, 1, nil, topic); err != nil {
		t.Fatal(err)
	}
	watched := wire.New()
	n.proxy.Use(n.cluster.Address(1, apache.Plaintext.Name), watched)
	mark := n.cluster.LogMark(1)
	return &options.Broker{Wire: watched, Address: n.proxy.Address, Logged: func(ctx context.Context, pattern string) error {
		_, err := n.cluster.WaitLogSince(ctx, 1, mark, regexp.MustCompile(pattern))
		if err != nil {
			return fmt.Errorf("the broker's log: %w", err)
		}
		return nil
	}}
}
