package scenario

import (
	"fmt"
	"net"
	"slices"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/test/pbx"
	"reskafka/test/wire"
)

// late is a broker that delays the first produce request of an engine, like a full socket buffer.
type late struct {
	held, release chan struct{}
	handled       atomic.Int32 // produce requests
	address       string
}

func newLate(t *testing.T) *late {
	t.Helper()
	l := &late{held: make(chan struct{}), release: make(chan struct{})}
	var first atomic.Bool
	watched := wire.New()
	watched.Disturb(wire.Of("late", wire.Key(kmsg.Produce, wire.Fault{
		Request: func(*wire.Conn, wire.Header) {
			if first.CompareAndSwap(false, true) {
				close(l.held)
				<-l.release
			}
		},
	})))
	cluster, err := kfake.NewCluster(kfake.NumBrokers(1), kfake.SeedTopics(1, "t"), kfake.ListenFn(func(network, address string) (net.Listener, error) {
		listener, err := net.Listen(network, address)
		if err != nil {
			return nil, err
		}
		return watched.Listen(listener), nil
	}))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(cluster.Close)
	cluster.ControlKey(int16(kmsg.Produce), func(kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		l.handled.Add(1)
		return nil, nil, false
	})
	l.address = cluster.ListenAddrs()[0]
	return l
}

// TestEngine_Killed_LateRequest kills an engine with a request in the broker's socket buffer. The broker
// executes this request after the requests of the next engine. With idempotence the next engine continues the
// producer id with the next epoch, so the broker refuses the late request. Without idempotence, the late copy
// follows newer records of its key.
func TestEngine_Killed_LateRequest(t *testing.T) {
	// The first record of a topic goes alone.
	for idempotence, want := range map[string]string{"yes": "abcd", "no": "abcda"} {
		t.Run("idempotence "+idempotence, func(t *testing.T) {
			t.Parallel()
			l := newLate(t)
			w := newWorld(t, options{noBroker: true, modules: []string{"res_kafka", "kafka_probe"}, files: map[string]string{
				"kafka.conf": fmt.Sprintf("[one]\ntype = connection\nbrokers = %s\nclient_id = late\nenable_idempotence = %s\n", l.address, idempotence),
			}})
			w.address = l.address
			put := func(values ...string) {
				var records [][2][]byte
				for _, value := range values {
					records = append(records, [2][]byte{[]byte("k"), []byte(value)})
				}
				w.expect(fmt.Sprintf(`accepted %d refused 0`, len(values)), "kafka probe file one t %s", w.probeFile(records...))
			}
			put("a", "b", "c")
			<-l.held
			killed := w.signalEngine(syscall.SIGKILL)
			w.wait("the next engine", func() bool { return !slices.Contains([]int{0, killed}, w.pbx.EnginePID()) })
			w.acknowledged("one", 3)
			put("d")
			w.acknowledged("one", 4)
			before := l.handled.Load()
			close(l.release)
			w.wait("the late request is carried out", func() bool { return l.handled.Load() > before })
			var got strings.Builder
			records, err := pbx.ReadTopic(w.ctx, w.root, w.address, "t", len(want))
			w.must(err)
			for _, r := range records {
				got.WriteString(text(r.Payload))
			}
			if end, err := w.admin().ListEndOffsets(w.ctx, "t"); err != nil || end["t"][0].Offset != int64(len(want)) || got.String() != want {
				t.Errorf("the topic has %q and ends at %d (%v), want %q", &got, end["t"][0].Offset, err, want)
			}
		})
	}
}
