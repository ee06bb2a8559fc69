package produce

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/dns"
	"reskafka/internal/kafka/client"
	"reskafka/test/kafkatest"
)

// names is a name server on this machine with the same address for every name.
type names struct {
	address atomic.Pointer[[4]byte]
	asked   atomic.Int64
}

// resolver returns a resolver with this name server.
func (n *names) resolver(t *testing.T) *dns.Resolver {
	t.Helper()
	conn, err := net.ListenPacket("udp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		question := make([]byte, 1500)
		for {
			size, from, err := conn.ReadFrom(question)
			if err != nil {
				return
			}
			if answer := n.answer(question[:size]); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}
	}()
	t.Cleanup(func() { conn.Close(); <-done })
	return &dns.Resolver{Redirect: func(string) string { return conn.LocalAddr().String() }}
}

// answer follows RFC 1035, section 4: a header of 12 bytes, the question, and for a host's address (type 1)
// one record.
func (n *names) answer(question []byte) []byte {
	const header, typeOfHost = 12, 1
	end := bytes.IndexByte(question[header:], 0)
	if end < 0 {
		return nil
	}
	end += header + 1 + 4
	answer := append([]byte{question[0], question[1], 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0}, question[header:end]...)
	if binary.BigEndian.Uint16(question[end-4:]) == typeOfHost {
		n.asked.Add(1)
		answer[7] = 1
		answer = append(answer, 0xc0, header, 0, typeOfHost, 0, 1, 0, 0, 0x0e, 0x10, 0, 4) // valid for an hour
		answer = append(answer, n.address.Load()[:]...)
	}
	return answer
}

// TestClusterMoves stops a cluster and starts a cluster of the same name at another address: every known
// broker is gone, and the configured name has a new address.
func TestClusterMoves(t *testing.T) {
	bothKinds(t, func(t *testing.T, idempotence bool) {
		n := &names{}
		var port int
		start := func(last byte) *kfake.Cluster {
			t.Helper()
			return kafkatest.Broker(t, kfake.SeedTopics(1, "t"), kfake.ListenFn(func(network, _ string) (net.Listener, error) {
				l, err := net.Listen(network, fmt.Sprintf("127.0.0.%d:%d", last, port))
				if err == nil {
					port = l.Addr().(*net.TCPAddr).Port
				}
				return l, err
			}))
		}
		first := start(2)
		n.address.Store(&[4]byte{127, 0, 0, 2})
		c := kafkatest.Connection(fmt.Sprintf("kafka.example:%d", port))
		c.Idempotence = idempotence
		p := open(t, c, nil, nil, func(tune *tuning) { tune.resolver = n.resolver(t) })
		kafkatest.SendAll(t, p, kafkatest.Numbered("t", 0, 5)...)

		first.Close()
		o := kafkatest.ExpectOutcomes(t, 5)
		p.Send(kafkatest.Numbered("t", 5, 10), time.Now().Add(time.Hour), o.Add)
		before := n.asked.Load()
		kafkatest.Soon(t, "the client asks for the name again", func() bool { return n.asked.Load() > before })
		second := start(3)
		n.address.Store(&[4]byte{127, 0, 0, 3})
		for r, err := range o.Wait() {
			if err != nil && !client.UnknownTopic(err) { // another cluster's topic has another id
				t.Errorf("record %s: %v", r.Value, err)
			}
		}
		kafkatest.Soon(t, "records arrive there", func() bool {
			for _, err := range kafkatest.Send(t, p, kafkatest.Numbered("t", 10, 11)...) {
				return err == nil
			}
			return false
		})
		if end := second.PartitionInfo("t", 0).HighWatermark; end == 0 {
			t.Error("nothing arrived at the new address")
		}
	})
}
