// Package dns resolves the host names of brokers. Go's resolver reads /etc/hosts, /etc/nsswitch.conf and /etc/resolv.conf and
// applies search domains; this package asks its questions. It does so as the C library does, without the EDNS0 record that some
// servers reject or drop, waits a bounded time for each, and notes what each server did.
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
	// maxQuestion is how long a server may take for one question.
	maxQuestion = 2 * time.Second
	// maxSilent is the same for a server that did not answer its last question while another one answers.
	maxSilent = 500 * time.Millisecond
	// maxBehind is how much longer the question for IPv6 addresses may take than that for IPv4 addresses.
	maxBehind = 500 * time.Millisecond
	// maxSystem is how long the system's other sources may take for a name that DNS does not know.
	maxSystem = 2 * time.Second
)

// Resolver resolves host names. It is safe for concurrent use. The zero value is ready.
type Resolver struct {
	// Redirect returns the address to ask instead of a server of /etc/resolv.conf, for tests. nil = that server itself.
	Redirect func(server string) string

	mtx    sync.Mutex
	silent map[string]bool // by server: whether it left its last question unanswered
}

// Lookup returns the addresses of host, the preferred first. host may be an address itself. An error is a *net.DNSError; its Err
// and Server tell what each DNS server did.
func (r *Resolver) Lookup(ctx context.Context, host string) ([]netip.Addr, error) {
	return r.lookUp(ctx, host, nameSources)
}

// lookUp is Lookup, with the file that lists the sources to ask for what DNS does not know.
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

// unmapped returns IPv4 addresses in their own form.
func unmapped(addrs []netip.Addr) []netip.Addr {
	for i := range addrs {
		addrs[i] = addrs[i].Unmap()
	}
	return addrs
}

// lookup is the resolution of one host name.
type lookup struct {
	resolver *Resolver

	mtx      sync.Mutex
	answered map[string]chan struct{} // by name: closed when a server has sent IPv4 addresses
	servers  []string                 // that were asked, in that order
	heard    map[string]string        // how each failed last
}

// dial is the Dial of a net.Resolver. The connection that it returns is one for a stream whatever the network, because such a
// connection carries a message as it is.
func (l *lookup) dial(ctx context.Context, network, server string) (net.Conn, error) {
	return &conversation{ctx: ctx, lookup: l, network: network, server: server}, nil
}

// addresses returns the channel that is closed when the IPv4 addresses of name are known.
func (l *lookup) addresses(name string) chan struct{} {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if l.answered[name] == nil {
		l.answered[name] = make(chan struct{})
	}
	return l.answered[name]
}

// note keeps what a server did, "" for a good answer, which hides no failure: the next search domain may well be answered.
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
		out.UnwrapErr = nil // that the caller's time was up as well says less
	}
	if !out.IsNotFound && len(did) > 0 {
		out.Err = strings.Join(did, ", ")
	}
	return out
}
