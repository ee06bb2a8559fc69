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

// reconnect keeps reconnect_backoff_ms and reconnect_backoff_max_ms for each broker of one client, as librdkafka does:
// after a failed attempt the next one, whatever asks for it, comes no sooner. The client library knows no such thing. It
// dials whenever a request needs a connection, several times over when one is closed at once, and waits only before it
// repeats a request.
//
// An attempt has failed when there was no connection, or when it ended before the broker was ready for requests. It has
// worked when the broker was.
type reconnect struct {
	wait func(failures int) time.Duration

	mtx   sync.Mutex
	addrs map[string]*attempts // only those that do not work
}

// forgotten is how long nobody has asked for an address that is remembered no more: brokers may be given a new one each
// time they start.
const forgotten = time.Hour

// attempts are those to reach one address that have failed in a row.
type attempts struct {
	failures int
	next     time.Time
	worked   chan struct{} // closed when one has worked
}

func newReconnect(wait func(failures int) time.Duration) *reconnect {
	return &reconnect{wait: wait, addrs: map[string]*attempts{}}
}

// turn blocks until an attempt to reach addr may begin, or until ctx is done, whose error it then returns.
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

// take gives an attempt its turn, or says how long to wait before asking again.
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
	a.next = now.Add(r.wait(a.failures)) // others wait as if this one had failed already
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

// OnBrokerConnect implements kgo.HookBrokerConnect, for the dialer. It comes after TLS, the exchange of versions and the
// login.
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
	case ours: // without one dial has counted it
		c.failed()
	}
}
