package client

import (
	"context"
	"maps"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

var _ kgo.HookBrokerConnect = (*Dialer)(nil)

// reconnect applies reconnect_backoff_ms and reconnect_backoff_max_ms to each broker of one client, like
// librdkafka: after a failed attempt the next attempt, for any request, waits. The client library has no such
// wait: every request without a connection dials, several times after an immediate close. Only the repetition
// of a request waits.
//
// An attempt has failed without a connection, or after a connection's end before the broker was ready for
// requests. A ready broker is a success.
type reconnect struct {
	wait func(failures int) time.Duration

	mtx   sync.Mutex
	addrs map[string]*attempts // failing addresses only
}

// forgotten is the time without a request after which an address is dropped: brokers may get a new address at
// each start.
const forgotten = time.Hour

// attempts are the consecutive failed attempts at one address.
type attempts struct {
	failures int
	next     time.Time
	worked   chan struct{} // closed after a success
}

func newReconnect(wait func(failures int) time.Duration) *reconnect {
	return &reconnect{wait: wait, addrs: map[string]*attempts{}}
}

// turn blocks until an attempt at addr may begin, or until ctx is done, and returns ctx's error then.
func (r *reconnect) turn(ctx context.Context, addr string) error {
	for {
		wait, worked := r.take(addr)
		if wait <= 0 {
			return nil
		}
		timer := time.NewTimer(wait)
		select {
		case <-timer.C:
		case <-worked:
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		}
		timer.Stop()
	}
}

// take starts an attempt, or returns the wait before the next call.
func (r *reconnect) take(addr string) (wait time.Duration, worked <-chan struct{}) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	a := r.addrs[addr]
	if a == nil {
		return 0, nil
	}
	now := time.Now()
	if wait := a.next.Sub(now); wait > 0 {
		return wait, a.worked
	}
	a.next = now.Add(r.wait(a.failures)) // others wait as after this attempt's failure
	return 0, nil
}

func (r *reconnect) failed(addr string) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	a, now := r.addrs[addr], time.Now()
	if a == nil {
		maps.DeleteFunc(r.addrs, func(_ string, a *attempts) bool { return now.Sub(a.next) > forgotten })
		a = &attempts{worked: make(chan struct{})}
		r.addrs[addr] = a
	}
	a.failures++
	a.next = now.Add(r.wait(a.failures))
}

func (r *reconnect) worked(addr string) {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if a := r.addrs[addr]; a != nil {
		close(a.worked)
		delete(r.addrs, addr)
	}
}

// OnBrokerConnect implements kgo.HookBrokerConnect, for the dialer, called after TLS, the exchange of
// versions and the login.
func (d *Dialer) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, conn net.Conn, err error) {
	c, ours := conn.(*Conn)
	if ours && c.over != nil {
		c.over()
	}
	switch {
	case err == nil:
		d.reconnect.worked(Address(meta))
		if ours {
			c.known = true
		}
	case ours: // otherwise counted by dial
		c.failed()
	}
}
