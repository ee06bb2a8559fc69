package kafka

import (
	"crypto/tls"
	"net"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/config"
)

// TestRecordsWait holds that the records of a topic the client knows wait in it while no connection can be made,
// whatever the reason. kgo left to itself fails them within a quarter of a second for these.
func TestRecordsWait(t *testing.T) {
	ours, other := newAuthority(t, "ours"), newAuthority(t, "other")
	file := ours.write(filepath.Join(t.TempDir(), "ca.pem"))
	for name, encrypted := range map[string]bool{"closed at the first request": false, "certificate not trusted": true} {
		t.Run(name, func(t *testing.T) {
			d := &door{tries: make(chan struct{}, 100)}
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
			use(ours.issue(), false)
			if encrypted {
				opts = append(opts, kfake.TLS(&tls.Config{GetCertificate: func(*tls.ClientHelloInfo) (*tls.Certificate, error) {
					certs.Lock()
					defer certs.Unlock()
					if certs.bad {
						d.count()
					}
					c := certs.now
					return &c, nil
				}}))
			}
			cluster := fakeBroker(t, opts...)
			var c *config.Connection
			if encrypted {
				c = secure(cluster, file)
			} else {
				c = connection(cluster.ListenAddrs()...)
			}
			p := open(t, c, nil, nil)
			sendAll(t, p, numbered("t", 0, 1)...)
			use(other.issue(), true)
			d.cut(!encrypted)
			o := expectOutcomes(t, 2)
			p.Send(numbered("t", 1, 3), time.Now().Add(time.Hour), o.add)
			for range 12 { // the client gives up metadata after 3, and that is what fails records
				await(t, d.tries)
			}
			o.mtx.Lock()
			if len(o.order) != 0 {
				t.Errorf("records did not wait: %v", o.err)
			}
			o.mtx.Unlock()
			use(ours.issue(), false)
			d.open()
			o.allSent()
		})
	}
}
