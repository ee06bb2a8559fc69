package client

import (
	"errors"
	"net"
	"os"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// TestPause_OtherConnection_ProducerSends checks that a pause on a connection that carries no produce requests does not hold up records.
func TestPause_OtherConnection_ProducerSends(t *testing.T) {
	p := &Pauses{}
	for key, connection := range map[kmsg.Key]*Conn{kmsg.Metadata: {}, kmsg.Produce: {}} {
		connection.Conn, _ = net.Pipe()
		connection.pauses, connection.known = p, true
		connection.answered.Store(true)
		connection.throttled(key, time.Minute)
		if held := p.On(0) != nil; held != (key == kmsg.Produce) || connection.pause.left() == 0 {
			t.Errorf("%s: held up %v", key.Name(), held)
		}
		_ = connection.Close()
		if p.On(0) != nil {
			t.Errorf("%s: held up after the connection's end", key.Name())
		}
	}
}

// TestPause_Deadline_EndsTheWrite checks that a write that waits ends with its deadline's change, as when a context ends or the
// client closes.
func TestPause_Deadline_EndsTheWrite(t *testing.T) {
	c := &Conn{known: true, pause: pause{wake: make(chan struct{}, 1)}}
	c.usage.touch()
	c.pause.ask(time.Hour)
	waited := make(chan error)
	go func() { waited <- c.rest() }()
	c.pause.deadline(time.Now().Add(-time.Second))
	if err := <-waited; !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
}
