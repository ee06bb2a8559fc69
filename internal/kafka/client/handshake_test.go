package client

import (
	"net"
	"os"
	"testing"

	"github.com/twmb/franz-go/pkg/kgo"
)

// TestHandshakeError checks that kgo treats a failed handshake as an unreachable broker: records wait.
func TestHandshakeError(t *testing.T) {
	err := error(&net.OpError{Op: "dial", Err: &HandshakeError{err: os.ErrDeadlineExceeded}})
	if timeout := err.(net.Error); !timeout.Timeout() {
		t.Error("a handshake's timeout does not count as one")
	}
	if !kgo.IsRetryableBrokerErr(err) {
		t.Error("a handshake's timeout is not tried again")
	}
}
