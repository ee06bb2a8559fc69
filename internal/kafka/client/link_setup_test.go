package client

import (
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
)

// TestLink_VersionsOfApiVersions verifies brokers without the newest ApiVersions.
func TestLink_VersionsOfApiVersions(t *testing.T) {
	refuse := func(newest ...int16) func(int32, kmsg.Request) kmsg.Response {
		return func(_ int32, request kmsg.Request) kmsg.Response {
			if len(newest) == 0 && request.GetVersion() == 0 || len(newest) > 0 && request.GetVersion() <= newest[0] {
				return versionsAnswer(request)
			}
			answer := kmsg.NewPtrApiVersionsResponse()
			answer.ErrorCode = kerr.UnsupportedVersion.Code
			for _, v := range newest {
				answer.ApiKeys = append(answer.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: int16(kmsg.ApiVersions), MaxVersion: v})
			}
			return answer
		}
	}
	for name, test := range map[string]struct {
		setUp       func(int32, kmsg.Request) kmsg.Response
		connections int32
	}{
		"before KIP-511": {refuse(), 1},
		"KIP-511":        {refuse(3), 1},
		"Event Hubs": {func(_ int32, request kmsg.Request) kmsg.Response {
			if request.GetVersion() > 0 {
				return nil
			}
			return versionsAnswer(request)
		}, 3},
	} {
		t.Run(name, func(t *testing.T) {
			b := newLinkBroker(t)
			b.setUp = test.setUp
			l := b.link(func(c *config.Connection) {
				c.ReconnectBackoff, c.ReconnectBackoffMax = time.Millisecond, time.Millisecond
			})
			p := newParcel(100)
			l.Queue(p)
			l.Flush()
			p.succeeds(t)
			if n := b.opened.Load(); n != test.connections {
				t.Errorf("%d connections, want %d", n, test.connections)
			}
		})
	}
}

// TestLink_LoginExpires_RenewedOnSameConnection checks KIP-368 under load: requests wait for the new login, and none is lost.
func TestLink_LoginExpires_RenewedOnSameConnection(t *testing.T) {
	b := newLinkBroker(t)
	var logins, unanswered atomic.Int32
	b.setUp = func(_ int32, request kmsg.Request) kmsg.Response {
		switch r := request.(type) {
		case *kmsg.ApiVersionsRequest:
			return versionsAnswer(r)
		case *kmsg.SASLAuthenticateRequest:
			logins.Add(1)
			if n := unanswered.Load(); n != 0 {
				t.Errorf("another login with %d requests under way", n)
			}
			answer := r.ResponseKind().(*kmsg.SASLAuthenticateResponse)
			answer.SessionLifetimeMillis = 1100
			return answer
		}
		return request.ResponseKind()
	}
	b.serve = func(conn net.Conn, frame []byte) bool {
		unanswered.Add(1)
		time.Sleep(5 * time.Millisecond)
		unanswered.Add(-1)
		return acknowledge(conn, frame)
	}
	l := b.link(func(c *config.Connection) {
		c.SecurityProtocol, c.SASLMechanism, c.SASLUsername, c.SASLPassword = "sasl_plaintext", "PLAIN", "user", "password"
	})
	for i := 0; logins.Load() < 4; i++ {
		first, second := newParcel(100), newParcel(100)
		for _, p := range []*parcel{first, second} {
			l.Queue(p)
			l.Flush()
		}
		first.succeeds(t)
		second.succeeds(t)
		if i > 1_000 {
			t.Fatal("no other login")
		}
	}
	if b.opened.Load() != 1 {
		t.Errorf("%d connections", b.opened.Load())
	}
}

// TestLink_OldBroker_LogsInWithoutRequests is a broker before 1.0: the messages of a mechanism are not in requests.
func TestLink_OldBroker_LogsInWithoutRequests(t *testing.T) {
	b := newLinkBroker(t)
	b.setUp = func(_ int32, request kmsg.Request) kmsg.Response {
		if request.Key() == int16(kmsg.ApiVersions) {
			answer := versionsAnswer(request).(*kmsg.ApiVersionsResponse)
			answer.ApiKeys = answer.ApiKeys[:4]
			answer.ApiKeys[3].MaxVersion = 0
			return answer
		}
		return request.ResponseKind()
	}
	said := make(chan string, 1)
	original := b.serve
	b.serve = func(conn net.Conn, frame []byte) bool {
		if len(frame) > 1 && frame[0] == 0 && frame[1] == 'u' { // PLAIN: NUL, user, NUL, password
			said <- fmt.Sprintf("%q", frame)
			_, err := conn.Write([]byte{0, 0, 0, 0})
			return err == nil
		}
		return original(conn, frame)
	}
	l := b.link(func(c *config.Connection) {
		c.SecurityProtocol, c.SASLMechanism, c.SASLUsername, c.SASLPassword = "sasl_plaintext", "PLAIN", "user", "password"
	})
	p := newParcel(100)
	l.Queue(p)
	l.Flush()
	p.succeeds(t)
	if got := <-said; got != `"\x00user\x00password"` {
		t.Error(got)
	}
}
