package client

import (
	"net"
	"os"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestHandshakeError holds that kgo takes a failed handshake for a broker that cannot be reached: its records wait.
func TestHandshakeError(t *testing.T) {
	err := error(&net.OpError{Op: "dial", Err: &HandshakeError{err: os.ErrDeadlineExceeded}})
	if timeout := err.(net.Error); !timeout.Timeout() {
		t.Error("a handshake's timeout does not count as one")
	}
	if !kgo.IsRetryableBrokerErr(err) {
		t.Error("a handshake's timeout is not tried again")
	}
}
