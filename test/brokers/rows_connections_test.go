package brokers

import (
	"crypto/tls"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"reskafka/internal/kafka"
	"reskafka/test/apache"
	"reskafka/test/wire"
	"reskafka/test/world"
)

func init() { rows = append(rows, idleRows()...) }

// long reports whether rows are to take the time that they have in the wild.
func long() bool { return os.Getenv("RES_KAFKA_LONG") != "" }

// idleRows are brokers, balancers and routers that end connections that were idle. Whatever the way, the kind of
// acknowledgement and the side, nothing is lost, nothing is logged, and no request goes into silence.
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
	if _, err := b.Subscribe("tested", func(m kafka.Message) { received <- string(m.Value) }); err != nil {
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
