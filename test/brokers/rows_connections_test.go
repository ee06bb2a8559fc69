package brokers

import (
	"crypto/tls"
	"fmt"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/plain"

	"reskafka/internal/kafka/consume"
	"reskafka/test/apache"
	"reskafka/test/port"
	"reskafka/test/wire"
	"reskafka/test/world"
)

func init() { rows = append(append(rows, idleRows()...), connectionRows()...) }

// long reports whether rows use realistic times.
func long() bool { return os.Getenv("RES_KAFKA_LONG") != "" }

// idleRows are brokers, balancers and routers that end idle connections. For every kind of end,
// acknowledgement and side, nothing is lost, nothing is logged, and no request goes unanswered.
func idleRows() []Row {
	var all []Row
	for _, end := range []struct {
		name string
		how  wire.Ending
	}{{"FIN", wire.FIN}, {"RST", wire.RST}, {"silence", wire.Silence}} {
		for _, secure := range []bool{false, true} {
			row := idleRow(end.how, secure)
			row.Name = "idle connections end by " + end.name
			if secure {
				row.Name += ", TLS"
			}
			all = append(all, row)
		}
	}
	return all
}

func idleRow(how wire.Ending, secure bool) Row {
	limit, unanswered := 2*time.Second, &atomic.Int64{}
	conf := []string{"socket_timeout_ms = 60000", "request_timeout_ms = 60000"}
	if how == wire.Silence { // where the end is announced, the default is in force
		limit = 3 * time.Second
		conf = append(conf, "connections_max_idle_ms = 1000")
	}
	if long() {
		limit = 5 * time.Second
	}
	row := Row{
		Finding: "A5",
		Broker: []wire.Fault{wire.IdleLimit(limit, how), {Request: func(c *wire.Conn, _ wire.Header) {
			if c.Silent() {
				unanswered.Add(1)
			}
		}}},
		Steps: func(b *Bench) error {
			if err := restAndProduce(b, limit+time.Second); err != nil {
				return err
			}
			if n := unanswered.Load(); n > 0 {
				return fmt.Errorf("%d requests went into silence", n)
			}
			return nil
		},
	}
	if secure {
		authority, err := apache.NewAuthority("An authority")
		if err != nil {
			panic(err)
		}
		pair, err := authority.Issue("broker", apache.NoFlaw)
		if err != nil {
			panic(err)
		}
		certificate, err := tls.X509KeyPair(pair.Certificate, pair.Key)
		if err != nil {
			panic(err)
		}
		row.TLS = &tls.Config{Certificates: []tls.Certificate{certificate}}
		conf = append(conf, "security_protocol = ssl", "ssl_ca_location = @DIR@/authority.pem")
		row.Files = map[string][]byte{"authority.pem": authority.PEM()}
	}
	row.Conf = append(conf, "acks = -1")
	for _, acks := range []string{"1", "0"} {
		row.Conf = append(row.Conf, "[acks"+acks+"](tested)", "acks = "+acks)
	}
	return row
}

// restAndProduce produces with each kind of acknowledgement and consumes, rests until the connections have been ended, and
// does so again.
func restAndProduce(b *Bench, rest time.Duration) error {
	received := make(chan string, 100)
	if _, err := b.Subscribe("tested", func(m consume.Message) { received <- string(m.Value) }); err != nil {
		return err
	}
	producers := map[string]*world.Producer{}
	for _, name := range []string{"tested", "acks1", "acks0"} {
		p, err := b.Open(name)
		if err != nil {
			return err
		}
		producers[name] = p
	}
	for round := range 2 {
		if round > 0 {
			time.Sleep(rest)
		}
		for name, p := range producers {
			value, begun := fmt.Sprintf("%s %d", name, round), time.Now()
			p.Put(value)
			if n, err := p.Settled(); err != nil || n != round+1 {
				return fmt.Errorf("%s: %d of %d records acknowledged: %v", name, n, round+1, err)
			}
			settled := time.Since(begun)
			if got, err := world.Await(b.World, received); err != nil || got != value {
				return fmt.Errorf("the message is %q, want %q: %v", got, value, err)
			}
			b.Logf("%s, round %d: acknowledged after %v, received after %v", name, round,
				settled.Round(time.Millisecond), time.Since(begun).Round(time.Millisecond))
		}
	}
	return nil
}

// connectionRows are unreachable or unusable brokers, with and without an error.
func connectionRows() []Row { return []Row{advertised(), versions(), outage(), session(), closing()} }

// advertised is a cluster with addresses valid in its own network only. A reader of the log must not look for
// the address in kafka.conf.
func advertised() Row {
	const words = "the cluster itself gives this address: see advertised.listeners of its brokers"
	var inner atomic.Int32 // a port without a listener
	return Row{
		Name: "the cluster advertises an address that cannot be reached from here", Finding: "A8",
		Broker: []wire.Fault{wire.Change(func(r *kmsg.MetadataResponse) {
			for i := range r.Brokers {
				r.Brokers[i].Port = inner.Load()
			}
		})},
		Conf: []string{"request_timeout_ms = 1000"},
		Steps: func(b *Bench) error {
			reserved, err := port.Reserve()
			if err != nil {
				return err
			}
			b.Cleanup(reserved.Close)
			_, number, _ := strings.Cut(reserved.Address(), ":")
			n, err := strconv.Atoi(number)
			if err != nil {
				return err
			}
			inner.Store(int32(n))
			if _, err := b.Open("tested"); err != nil {
				return err
			}
			test := []string{"kafka", "test", "send", "connection", "tested", "topic", "topic", "message", "m"}
			if got := b.Command(test...); !strings.Contains(got, words) {
				return fmt.Errorf("kafka test send answers %q", got)
			}
			return nil
		},
		Log:   []string{words},
		Shown: []string{words},
	}
}

// versions is a broker, or a proxy in front of a broker, with other versions of a request than this client's.
// The library fails before any write.
func versions() Row {
	const words = "the versions of the protocol that the broker offers do not fit"
	var key atomic.Int32 // of the kind
	return Row{
		Name: "a broker offers versions that do not fit", Finding: "C10",
		Broker: []wire.Fault{wire.Change(func(r *kmsg.ApiVersionsResponse) {
			for i := range r.ApiKeys {
				if int32(r.ApiKeys[i].ApiKey) == key.Load() {
					r.ApiKeys[i].MinVersion, r.ApiKeys[i].MaxVersion = 100, 101
				}
			}
		})},
		Conf: []string{"request_timeout_ms = 1000", "enable_idempotence = yes",
			"[InitProducerID](tested)", "[Produce](tested)", "[FindCoordinator](tested)", "[Fetch](tested)", "group_id = another", "[CreateTopics](tested)"},
		Steps: func(b *Bench) error {
			for name, about := range map[string]string{
				"tested": "asking for topics", "InitProducerID": "getting a producer id", "Produce": "sending to broker 0",
			} {
				key.Store(int32(map[string]kmsg.Key{
					"tested": kmsg.Metadata, "InitProducerID": kmsg.InitProducerID, "Produce": kmsg.Produce,
				}[name]))
				p, err := b.Open(name)
				if err != nil {
					return err
				}
				p.Put("one")
				if _, err := b.Log.Await(b.Ctx, "connection "+name+": "+about+": "+words); err != nil {
					return err
				}
				if got := b.Show(name); !strings.Contains(got, words) {
					return fmt.Errorf("%s is not shown:\n%s", about, got)
				}
			}
			for name, about := range map[string]string{"FindCoordinator": "group group", "Fetch": "fetching messages"} {
				key.Store(int32(map[string]kmsg.Key{"FindCoordinator": kmsg.FindCoordinator, "Fetch": kmsg.Fetch}[name]))
				s, err := b.Subscribe(name, func(consume.Message) {})
				if err != nil {
					return err
				}
				if _, err := b.Log.Await(b.Ctx, "connection "+name+": "+about+": "+words); err != nil {
					return err
				}
				s.End()
			}
			key.Store(int32(kmsg.CreateTopics))
			if err := b.Engine.EnsureTopic("CreateTopics", "another", 1, 1, true); err == nil {
				return fmt.Errorf("a topic is created with versions that do not fit")
			}
			return nil
		},
		Log: []string{words},
	}
}

// opened has the connections to a broker, to end all at once.
type opened struct {
	down  atomic.Bool // new connections end too
	conns sync.Map
}

func (o *opened) fault() wire.Fault {
	return wire.Fault{Opened: func(c *wire.Conn) {
		o.conns.Store(c, true)
		if o.down.Load() {
			c.End(wire.RST)
		}
	}}
}

func (o *opened) end() {
	o.conns.Range(func(c, _ any) bool {
		c.(*wire.Conn).End(wire.RST)
		return true
	})
}

// outage is a cluster that was away, with other names of its brokers than in the configuration.
func outage() Row {
	o := &opened{}
	return Row{
		Name: "after an outage the bootstrap name is not needed", Finding: "A9",
		Broker: []wire.Fault{o.fault()},
		Steps: func(b *Bench) error {
			_, number, err := net.SplitHostPort(b.Kafka.ListenAddrs()[0])
			if err != nil {
				return err
			}
			if err := b.Configure("[tested]\ntype = connection\nclient_id = tested\nbrokers = localhost:" + number +
				"\nreconnect_backoff_ms = 20\nreconnect_backoff_max_ms = 200\n"); err != nil {
				return err
			}
			p, err := b.Open("tested")
			if err != nil {
				return err
			}
			p.Put("one")
			if n, err := p.Settled(); err != nil || n != 1 {
				return fmt.Errorf("%d records acknowledged: %v", n, err)
			}
			o.down.Store(true)
			o.end()
			p.Put("two")
			if _, err := b.Log.Await(b.Ctx, "warning: "); err != nil {
				return err
			}
			o.down.Store(false)
			if n, err := p.Settled(); err != nil || n != 2 {
				return fmt.Errorf("%d records acknowledged: %v", n, err)
			}
			return b.Until("the connection counts as connected", func() bool {
				row := b.Command("kafka", "show", "status")
				return strings.Contains(row, " connected ") && !strings.Contains(b.Show("tested"), "not connected")
			})
		},
		Log: []string{"; records wait"},
	}
}

// session is a broker that ends a login after a while. The login is renewed silently, under load and after a
// rest.
func session() Row {
	const lifetime = 1500 * time.Millisecond
	return Row{
		Name: "logins end after a while",
		Kafka: []kfake.Opt{kfake.EnableSASL(), kfake.Superuser("PLAIN", "user", "password"),
			kfake.BrokerConfigs(map[string]string{"connections.max.reauth.ms": strconv.Itoa(int(lifetime.Milliseconds()))})},
		Client: []kgo.Opt{kgo.SASL(plain.Auth{User: "user", Pass: "password"}.AsMechanism())},
		Conf: []string{"security_protocol = sasl_plaintext", "sasl_mechanisms = PLAIN", "sasl_username = user", "sasl_password = password",
			"[none](tested)", "acks = 0"},
		Steps: func(b *Bench) error {
			const rounds = 12
			producers := map[string]*world.Producer{}
			for i := range rounds {
				for _, name := range []string{"tested", "none"} {
					p := producers[name]
					if p == nil {
						var err error
						if p, err = b.Open(name); err != nil {
							return err
						}
						producers[name] = p
					}
					p.Put(fmt.Sprintf("%s %d", name, i))
					if n, err := p.Settled(); err != nil || n != i+1 {
						return fmt.Errorf("%s: %d of %d records acknowledged: %v", name, n, i+1, err)
					}
				}
				pause := lifetime / 6
				if i == rounds-2 {
					pause = lifetime + lifetime/2
				}
				time.Sleep(pause)
			}
			got, err := b.Read(2 * rounds)
			slices.Sort(got)
			if err == nil && len(slices.Compact(got)) != 2*rounds {
				err = fmt.Errorf("%d records: %q", len(got), got)
			}
			return err
		},
	}
}

// closing is a broker that closes the connection after its answer to ApiVersions, several times.
func closing() Row {
	var closed atomic.Int64
	return Row{
		Name: "a broker closes behind its answer to ApiVersions",
		Broker: []wire.Fault{{Request: func(c *wire.Conn, h wire.Header) {
			if h.Key != kmsg.ApiVersions && closed.Add(1) <= 3 {
				c.End(wire.FIN)
			}
		}}},
		Records: 10, Consume: true,
		Log: []string{"it closed the connection"},
	}
}
