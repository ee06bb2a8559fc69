package client

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"syscall"
	"time"

	"github.com/twmb/franz-go/pkg/kbin"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
)

// This client's names in ApiVersions (KIP-511), the same as the client library's.
const (
	softwareName    = "kgo"
	softwareVersion = "unknown"
)

// maxResets is the limit of consecutive connections reset by ApiVersions; the next connection asks for the
// oldest version. Azure Event Hubs resets on an unknown version.
const maxResets = 2

// connect opens a connection ready for requests. errMoved: the broker's address has changed meanwhile.
func (l *Link) connect() (*linkConn, error) {
	for {
		ctx, cancel := context.WithCancel(context.Background())
		l.mtx.Lock()
		meta, listed, moves := l.meta, l.listed, l.moves
		if l.closed {
			cancel()
		}
		l.cancel = cancel
		l.mtx.Unlock()
		if !listed {
			return nil, errUnlisted
		}
		c, err := l.attempt(ctx, meta)
		cancel()
		l.mtx.Lock()
		l.cancel = nil
		moved := l.moves != moves
		if err == nil && !moved && !l.closed {
			l.conn = c
		}
		closed := l.closed
		l.mtx.Unlock()
		switch {
		case err == nil && (moved || closed):
			c.Close()
			l.all.hooks.OnBrokerDisconnect(meta, c.Conn)
			return nil, errMoved
		case moved:
			return nil, errMoved
		case err != nil && reset(err) && l.resets < maxResets:
			l.resets++
		default:
			l.resets = 0
			return c, err
		}
	}
}

// versionsReset is a connection's reset by ApiVersions.
type versionsReset struct{ error }

func (e *versionsReset) Unwrap() error { return e.error }

func reset(err error) bool {
	_, ok := errors.AsType[*versionsReset](err)
	return ok
}

// attempt opens a connection to an address, and reports the result to the dialer and the hooks.
func (l *Link) attempt(ctx context.Context, meta kgo.BrokerMetadata) (*linkConn, error) {
	l.all.log.Logf("broker", "opening connection to broker %d at %s", l.node, Address(meta))
	conn, err := l.all.dialer.dial(ctx, "tcp", Address(meta), direct)
	if err != nil {
		if ctx.Err() == nil {
			l.all.hooks.OnBrokerConnect(meta, 0, nil, err)
		}
		return nil, err
	}
	c := &linkConn{Conn: conn, meta: meta, unwritten: math.MaxInt64}
	stop := context.AfterFunc(ctx, func() { c.Close() })
	closing := context.AfterFunc(l.all.dialer.closing, func() { c.Close() })
	err = guarded(l.all.hooks.log, "setting up a connection", func() error { return l.setUp(c) })
	stop()
	closing()
	if err != nil {
		c.Close()
		if ctx.Err() != nil || l.all.dialer.closing.Err() != nil {
			err = context.Canceled
		}
		l.all.log.Logf("broker", "connection to broker %d at %s failed: %v", l.node, Address(meta), err)
	}
	l.all.dialer.OnBrokerConnect(meta, 0, c.Conn, err)
	l.all.hooks.OnBrokerConnect(meta, 0, c.Conn, err)
	if err != nil {
		return nil, err
	}
	c.armed = time.Now().Add(c.silence)
	_ = c.Conn.Conn.SetReadDeadline(c.armed)
	return c, nil
}

// setUp asks for the broker's versions and logs in.
func (l *Link) setUp(c *linkConn) error {
	versions, err := l.versions(c)
	if err != nil {
		return err
	}
	c.version = fitting(versions, l.all.Key, kmsg.RequestForKey(int16(l.all.Key)).MaxVersion(), l.all.MinVersion)
	if c.version >= 0 {
		request := kmsg.RequestForKey(int16(l.all.Key))
		request.SetVersion(c.version)
		c.flexible = request.IsFlexible()
	}
	l.all.log.Logf("feature", "broker %d takes %s v%d", l.node, l.all.Key.Name(), c.version)
	c.handshake = fitting(versions, kmsg.SASLHandshake, 1, 0)
	c.authenticate = fitting(versions, kmsg.SASLAuthenticate, kmsg.NewPtrSASLAuthenticateRequest().MaxVersion(), 0)
	return l.login(c)
}

// fitting returns the newest common version of a request; -1 = none.
func fitting(versions []kmsg.ApiVersionsResponseApiKey, key kmsg.Key, newest, oldest int16) int16 {
	for _, v := range versions {
		if v.ApiKey == int16(key) {
			if found := min(v.MaxVersion, newest); found >= max(v.MinVersion, oldest) {
				return found
			}
		}
	}
	return -1
}

// versions requests the broker's versions of requests. A broker without the newest ApiVersions answers with
// its own version (KIP-511), an old broker with none.
func (l *Link) versions(c *linkConn) ([]kmsg.ApiVersionsResponseApiKey, error) {
	request := kmsg.NewPtrApiVersionsRequest()
	request.ClientSoftwareName, request.ClientSoftwareVersion = softwareName, softwareVersion
	request.Version = request.MaxVersion()
	switch {
	case l.resets == maxResets:
		request.Version = 0
	case l.apiVersion >= 0:
		request.Version = min(request.Version, l.apiVersion)
	}
	for {
		if request.ClusterID, request.NodeID = nil, -1; request.Version >= 5 {
			if id := l.all.cluster.Load(); id != nil {
				request.ClusterID, request.NodeID = id, l.node
			}
		}
		raw, err := l.exchange(c, request)
		if errors.Is(err, syscall.ECONNRESET) {
			return nil, &versionsReset{err}
		}
		if err != nil {
			return nil, err
		}
		if len(raw) < 2 {
			return nil, kbin.ErrNotEnoughData
		}
		answer := request.ResponseKind().(*kmsg.ApiVersionsResponse)
		unknown := int16(binary.BigEndian.Uint16(raw)) == kerr.UnsupportedVersion.Code
		if unknown {
			answer.Version = 0
		}
		if err = answer.ReadFrom(raw); err != nil {
			return nil, fmt.Errorf("reading the answer to ApiVersions: %w", err)
		}
		if unknown && len(answer.ApiKeys) < 2 {
			older := int16(0)
			if len(answer.ApiKeys) == 1 {
				older = answer.ApiKeys[0].MaxVersion
			}
			if older < 0 || older >= request.Version {
				return nil, kerr.UnsupportedVersion
			}
			request.Version = older
			continue
		}
		if !unknown {
			if err = kerr.ErrorForCode(answer.ErrorCode); err != nil {
				return nil, err
			}
		}
		if len(answer.ApiKeys) == 0 {
			return nil, errors.New("the answer to ApiVersions names no request")
		}
		l.apiVersion = request.Version
		return answer.ApiKeys, nil
	}
}

// exchange sends a request of the set-up and returns the body of the answer, which is valid until the next exchange.
func (l *Link) exchange(c *linkConn, request kmsg.Request) ([]byte, error) {
	number := correlation(c.number)
	c.number++
	answer, err := l.converse(c, l.all.format.AppendRequest(nil, request, number))
	if err != nil {
		return nil, err
	}
	if len(answer) < 4 {
		return nil, kbin.ErrNotEnoughData
	}
	if int32(binary.BigEndian.Uint32(answer)) != number {
		return nil, errMismatch
	}
	body := answer[4:]
	if request.IsFlexible() && request.Key() != int16(kmsg.ApiVersions) {
		b := kbin.Reader{Src: body}
		kmsg.SkipTags(&b)
		return b.Src, b.Complete()
	}
	return body, nil
}

// converse writes bytes behind their length and returns an answer without its length.
func (l *Link) converse(c *linkConn, p []byte) ([]byte, error) {
	if err := c.SetWriteDeadline(time.Now().Add(l.all.timeout)); err != nil {
		return nil, err
	}
	if _, err := c.Write(p); err != nil {
		return nil, err
	}
	if err := c.SetWriteDeadline(time.Time{}); err != nil {
		return nil, err
	}
	if err := c.SetReadDeadline(time.Now().Add(l.all.timeout)); err != nil {
		return nil, err
	}
	for {
		answer, err := c.in.next()
		if err != nil || answer != nil {
			return answer, err
		}
		if err := c.in.more(c.Conn); err != nil {
			return nil, err
		}
	}
}

// login logs in, if the connection has a mechanism.
func (l *Link) login(c *linkConn) error {
	mechanism := l.all.mechanism
	if mechanism == nil {
		return nil
	}
	wrapped := false
	if c.handshake >= 0 {
		request := kmsg.NewPtrSASLHandshakeRequest()
		request.Mechanism, request.Version = mechanism.Name(), c.handshake
		raw, err := l.exchange(c, request)
		if err != nil {
			return err
		}
		answer := request.ResponseKind().(*kmsg.SASLHandshakeResponse)
		if err = answer.ReadFrom(raw); err != nil {
			return err
		}
		if err = kerr.ErrorForCode(answer.ErrorCode); err != nil {
			return err
		}
		wrapped = c.handshake == 1 && c.authenticate >= 0
	}
	began, lifetime, err := l.authenticate(c, wrapped)
	if err != nil {
		return err
	}
	l.mtx.Lock()
	defer l.mtx.Unlock()
	c.expires, c.fresh = expiry(began, lifetime), true
	l.all.log.Logf("security", "logged in to broker %d by %s, for %v (0 = as long as the connection)", l.node, mechanism.Name(), lifetime)
	return nil
}

// authenticate exchanges the messages of the mechanism: in requests, or without them for a broker older than
// 1.0. It returns the time of the last message and the login's lifetime; 0 = as long as the connection.
func (l *Link) authenticate(c *linkConn, wrapped bool) (began time.Time, lifetime time.Duration, err error) {
	session, message, err := l.all.mechanism.Authenticate(l.all.dialer.closing, Address(c.meta))
	if err != nil {
		return began, 0, err
	}
	for done := false; !done || len(message) > 0; {
		var challenge []byte
		began = time.Now()
		switch {
		case wrapped:
			challenge, lifetime, err = l.authenticateBy(c, message)
		case done: // the last message has no answer
			_, err = c.Write(framed(message))
		default:
			challenge, err = l.converse(c, framed(message))
		}
		if err != nil {
			return began, 0, err
		}
		if message = nil; !done {
			if done, message, err = session.Challenge(challenge); err != nil {
				return began, 0, err
			}
		}
	}
	return began, lifetime, nil
}

func framed(message []byte) []byte {
	return append(binary.BigEndian.AppendUint32(nil, uint32(len(message))), message...)
}

// maxLifetime is the limit of a login's lifetime here.
const maxLifetime = 365 * 24 * time.Hour

// authenticateBy sends one message of the mechanism in a request.
func (l *Link) authenticateBy(c *linkConn, message []byte) (challenge []byte, lifetime time.Duration, err error) {
	request := kmsg.NewPtrSASLAuthenticateRequest()
	request.SASLAuthBytes, request.Version = message, c.authenticate
	raw, err := l.exchange(c, request)
	if err != nil {
		return nil, 0, err
	}
	answer := request.ResponseKind().(*kmsg.SASLAuthenticateResponse)
	if err = answer.ReadFrom(raw); err != nil {
		return nil, 0, err
	}
	if err = kerr.ErrorForCode(answer.ErrorCode); err != nil {
		if answer.ErrorMessage != nil {
			err = fmt.Errorf("%w: %s", err, *answer.ErrorMessage)
		}
		return nil, 0, err
	}
	millis := Clamp(time.Duration(answer.SessionLifetimeMillis), 0, maxLifetime/time.Millisecond)
	return answer.SASLAuthBytes, millis * time.Millisecond, nil
}

// expiry returns when to log in once more: 2 to 5 % of the lifetime early, a second at least, and earlier if the login took longer.
func expiry(began time.Time, lifetime time.Duration) time.Time {
	if lifetime <= 0 {
		return time.Time{}
	}
	early := time.Duration(float64(lifetime) * (0.02 + 0.03*rand.Float64()))
	return began.Add(lifetime - max(early, time.Second, time.Since(began)))
}
