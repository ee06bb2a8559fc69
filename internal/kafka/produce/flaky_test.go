package produce

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/config"
	"reskafka/test/kafkatest"
)

// TestRecordsWait checks that the records of a known topic wait while no connection succeeds, for any reason.
// For these reasons kgo alone fails the records within a quarter of a second.
func TestRecordsWait(t *testing.T) {
	ours, other := kafkatest.NewAuthority(t, "ours"), kafkatest.NewAuthority(t, "other")
	file := ours.Write(filepath.Join(t.TempDir(), "ca.pem"))
	for name, encrypted := range map[string]bool{"closed at the first request": false, "certificate not trusted": true} {
		t.Run(name, func(t *testing.T) {
			d := &kafkatest.Door{Tries: make(chan struct{}, 100)}
			opts := []kfake.Opt{kfake.SeedTopics(1, "t"), kfake.ListenFn(func(network, address string) (net.Listener, error) {
				l, err := net.Listen(network, address)
				d.Listener = l
				return d, err
			})}
			var certs struct {
				sync.Mutex
				now tls.Certificate
				bad bool
			}
			use := func(c tls.Certificate, bad bool) {
				certs.Lock()
				defer certs.Unlock()
				certs.now, certs.bad = c, bad
			}
			use(ours.Issue(), false)
			if encrypted {
				opts = append(opts, kfake.TLS(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
					certs.Lock()
					defer certs.Unlock()
					if certs.bad {
						d.Count()
					}
					c := certs.now
					return &c, nil
				}}))
			}
			cluster := kafkatest.Broker(t, opts...)
			var c *config.Connection
			if encrypted {
				c = kafkatest.Secure(cluster, file)
			} else {
				c = kafkatest.Connection(cluster.ListenAddrs()...)
			}
			p := open(t, c, nil, nil)
			kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 1)...)
			use(other.Issue(), true)
			d.Cut(!encrypted)
			o := kafkatest.ExpectOutcomes(t, 2)
			p.Send(kafkatest.Numbered("t", 1, 3), time.Now().Add(time.Hour), o.Add)
			for range 12 { // the client gives up metadata after 3 failures, and then fails records
				kafkatest.Await(t, d.Tries)
			}
			o.Mtx.Lock()
			if len(o.Order) != 0 {
				t.Errorf("records did not wait: %v", o.Err)
			}
			o.Mtx.Unlock()
			use(ours.Issue(), false)
			d.Open()
			o.AllSent()
		})
	}
}
