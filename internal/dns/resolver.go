// Package dns resolves the host names of brokers. Go's resolver reads /etc/hosts, /etc/nsswitch.conf and
// /etc/resolv.conf and applies search domains. This package sends its questions like the C library, without
// the EDNS0 record rejected or dropped by some servers, with a limit of time for each, and records each
// server's failure.
package dns

import (
	"context"
	"errors"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"time"
)

const (
	// maxLookup is how long a name may take, with all servers and search domains.
	maxLookup = 15 * time.Second
	// maxQuestion is a server's time for a question.
	maxQuestion = 2 * time.Second
	// maxSilent is the time of a server without an answer to its last question, while another server answers.
	maxSilent = 500 * time.Millisecond
	// maxBehind is the extra time of the question for IPv6 addresses after the answer for IPv4 addresses.
	maxBehind = 500 * time.Millisecond
	// maxSystem is the time of the system's other sources for a name unknown to DNS.
	maxSystem = 2 * time.Second
)

// Resolver resolves host names. It is safe for concurrent use. The zero value is ready for use.
type Resolver struct {
	// Redirect returns the replacement of a server in /etc/resolv.conf, for tests. nil = none.
	Redirect func(server string) string

	mtx    sync.Mutex
	silent map[string]bool // by server: whether its last question had no answer
}

// Lookup returns the addresses of host, the preferred address first. host may be an address. An error is a
// *net.DNSError; its Err and Server describe each DNS server's failure.
func (r *Resolver) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return r.lookUp(ctx, host, nameSources)
}

// lookUp is Lookup with the name of the file of sources for names unknown to DNS.
func (r *Resolver) lookUp(ctx context.Context, host, sources string) ([]netip.Addr, error) {
	if addr, err := netip.ParseAddr(host); err == nil {
		return []netip.Addr{addr}, nil
	}
	ctx, cancel := context.WithTimeout(ctx, maxLookup)
	defer cancel()
	look := &lookup{resolver: r, answered: map[string]chan struct{}{}, heard: map[string]string{}}
	addrs, err := (&net.Resolver{PreferGo: true, Dial: look.dial}).LookupNetIP(ctx, "ip", host)
	failed, _ := errors.AsType[*net.DNSError](err)
	if failed != nil && failed.IsNotFound {
		if addrs := askSystem(ctx, host, sources); len(addrs) > 0 {
			return unmapped(addrs), nil
		}
	}
	if err != nil {
		return nil, look.explain(failed, err)
	}
	return unmapped(addrs), nil
}

// unmapped converts mapped IPv4 addresses to plain IPv4.
func unmapped(addrs []netip.Addr) []netip.Addr {
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs
}

// lookup is the resolution of a host name.
type lookup struct {
	resolver *Resolver

	mtx      sync.Mutex
	answered map[string]chan struct{} // by name: closed when a server has sent IPv4 addresses
	servers  []string                 // asked servers, in order
	heard    map[string]string        // how each failed last
}

// dial is the Dial of a net.Resolver. The returned connection is a stream for any network, because a stream
// preserves the whole message.
func (l *lookup) dial(ctx context.Context, network, server string) (net.Conn, error) {
	return &conversation{ctx: ctx, lookup: l, network: network, server: server}, nil
}

// addresses returns a channel that is closed once the IPv4 addresses of name are known.
func (l *lookup) addresses(name string) chan struct{} {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if l.answered[name] == nil {
		l.answered[name] = make(chan struct{})
	}
	return l.answered[name]
}

// note records a server's failure, or "" for a good answer. A good answer hides no failure, because the next
// search domain may have an answer.
func (l *lookup) note(server, did string) {
	l.mtx.Lock()
	if !slices.Contains(l.servers, server) {
		l.servers = append(l.servers, server)
	}
	if did != "" {
		l.heard[server] = did
	}
	l.mtx.Unlock()

	l.resolver.mtx.Lock()
	defer l.resolver.mtx.Unlock()
	if l.resolver.silent == nil {
		l.resolver.silent = map[string]bool{}
	}
	l.resolver.silent[server] = did == noAnswer
}

// patience returns how long a server may take for a question.
func (r *Resolver) patience(server string) time.Duration {
	r.mtx.Lock()
	defer r.mtx.Unlock()
	if r.silent[server] {
		for other, silent := range r.silent {
			if other != server && !silent {
				return maxSilent
			}
		}
	}
	return maxQuestion
}

// explain returns the error of a lookup, which names the servers.
func (l *lookup) explain(failed *net.DNSError, err error) error {
	out := &net.DNSError{Err: err.Error()}
	if failed != nil {
		*out = *failed
	}
	l.mtx.Lock()
	defer l.mtx.Unlock()
	var did, names []string
	for _, server := range l.servers {
		name := strings.TrimSuffix(server, ":53")
		names = append(names, name)
		if heard := l.heard[server]; heard != "" {
			did = append(did, "DNS server "+name+" "+heard)
		}
	}
	out.Server = strings.Join(names, ", ")
	if len(did) > 0 && !errors.Is(err, context.Canceled) {
		out.UnwrapErr = nil // the caller's deadline is less important
	}
	if !out.IsNotFound && len(did) > 0 {
		out.Err = strings.Join(did, ", ")
	}
	return out
}
