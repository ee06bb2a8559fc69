package client

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"time"
)

// attemptDelay is the delay before the attempt at the next address.
const attemptDelay = 300 * time.Millisecond

// attempt is the outcome of a connection attempt at one address.
type attempt struct {
	conn net.Conn
	err  error
}

// connectAny connects to the first of addrs that accepts. After a failure or attemptDelay the next address is
// tried too, so a silent address costs little. The error is from the first failed address.
func (d *Dialer) connectAny(ctx context.Context, network string, addrs []netip.Addr, port string) (net.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, maxConnectTime)
	defer cancel()
	var first error
	results, rest, underWay := make(chan attempt), alternating(addrs), 0
	next := time.NewTimer(0)
	defer next.Stop()
	for underWay > 0 || len(rest) > 0 {
		select {
		case <-next.C:
			if len(rest) > 0 {
				address := net.JoinHostPort(rest[0].String(), port)
				rest, underWay = rest[1:], underWay+1
				go func() {
					conn, err := d.TCP(ctx, network, address)
					results <- attempt{conn, err}
				}()
				next.Reset(attemptDelay)
			}
		case got := <-results:
			underWay--
			if got.err == nil {
				go closeAll(results, underWay)
				return got.conn, nil
			}
			if first == nil {
				first = got.err
			}
			next.Reset(0)
		}
	}
	return nil, first
}

// closeAll closes the connections of n more attempts.
func closeAll(results <-chan attempt, n int) {
	for range n {
		if got := <-results; got.err == nil {
			got.conn.Close()
		}
	}
}

// alternating returns addrs with the two families in turn, the preferred family first.
func alternating(addrs []netip.Addr) []netip.Addr {
	var out, other []netip.Addr
	for _, addr := range addrs {
		if addr.Is4() == addrs[0].Is4() {
			out = append(out, addr)
		} else {
			other = append(other, addr)
		}
	}
	for i, addr := range other {
		out = slices.Insert(out, min(2*i+1, len(out)), addr)
	}
	return out
}
