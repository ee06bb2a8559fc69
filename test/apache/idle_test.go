package apache

import (
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	kafka "reskafka/internal/kafka/consume"
	"reskafka/test/world"
)

// TestIdle_BrokerClosesIdleConnections_NothingIsLogged has Apache Kafka itself end idle connections, in
// plaintext and in TLS, where TLS's end comes before TCP's. With every kind of acknowledgement the next
// record is sent at once, without a log line.
func TestIdle_BrokerClosesIdleConnections_NothingIsLogged(t *testing.T) {
	const limit, rounds = 5 * time.Second, 2
	eachVersion(t, func(t *testing.T, folder string) {
		c := start(t, Config{Kafka: folder, Listeners: []Listener{Plaintext, SSL},
			Properties: map[string]string{"connections.max.idle.ms": strconv.Itoa(int(limit.Milliseconds()))}})
		if _, err := kadm.NewClient(client(t, c.Brokers(Plaintext.Name), kgo.AlwaysRetryEOF())).CreateTopic(testContext(t), 1, 1, nil, "test"); err != nil {
			t.Fatal(err)
		}
		w := world.New(t, "test", t.TempDir(), 2*time.Minute)
		var conf strings.Builder
		var names []string
		for _, acks := range []int{-1, 1, 0} {
			for protocol, listener := range map[string]string{"plaintext": Plaintext.Name, "ssl": SSL.Name} {
				name := fmt.Sprintf("%s%d", protocol, acks+1)
				names = append(names, name)
				fmt.Fprintf(&conf, "[%s]\ntype = connection\nbrokers = %s\nacks = %d\nsecurity_protocol = %s\n"+
					"group_id = %s\nauto_offset_reset = earliest\n", name, c.Brokers(listener), acks, protocol, name)
				if protocol == "ssl" {
					fmt.Fprintf(&conf, "ssl_ca_location = %s\n", c.CAFile())
				}
			}
		}
		if err := w.Configure(conf.String()); err != nil {
			t.Fatal(err)
		}
		received := make(chan string, 1000)
		for _, name := range []string{"plaintext0", "ssl0"} {
			if _, err := w.Subscribe(name, func(m kafka.Message) { received <- string(m.Value) }); err != nil {
				t.Fatal(err)
			}
		}
		producers := map[string]*world.Producer{}
		for round := range rounds {
			if round > 0 {
				time.Sleep(limit + 2*time.Second)
			}
			for _, name := range names {
				if producers[name] == nil {
					p, err := w.Open(name)
					if err != nil {
						t.Fatal(err)
					}
					producers[name] = p
				}
				began := time.Now()
				producers[name].Put(fmt.Sprintf("%s %d", name, round))
				if n, err := producers[name].Settled(); err != nil || n != round+1 {
					t.Fatalf("%s: %d of %d records acknowledged: %v", name, n, round+1, err)
				}
				t.Logf("%s, round %d: acknowledged after %v", name, round, time.Since(began).Round(time.Millisecond))
			}
		}
		for range 2 * len(names) * rounds { // there are two subscriptions
			if _, err := world.Await(w, received); err != nil {
				t.Fatal(err)
			}
		}
		for _, line := range w.Log.With() {
			t.Errorf("the log says %s", line)
		}
	})
}
