package dns

import (
	"bytes"
	"cmp"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"syscall"
	"time"
)

// The relevant parts of a message: RFC 1035, section 4.
const (
	headerBytes  = 12
	maxMessage   = 65535
	typeA        = 1
	typeAAAA     = 28
	flagResponse = 1 << 15
	flagTC       = 1 << 9 // truncated
	flagRA       = 1 << 7 // recursion available
	codeMask     = 0xf
	codeOK       = 0
	codeNoName   = 3
)

// noAnswer describes a silent server.
const noAnswer = "did not answer"

// codes are the names of error codes.
var codes = map[uint16]string{1: "FORMERR", 2: "SERVFAIL", 4: "NOTIMP", 5: "REFUSED"}

// conversation is a question and its answer in the form of a connection: a write sets the question, and a
// read asks it.
type conversation struct {
	ctx             context.Context
	lookup          *lookup
	network, server string
	question        []byte
	answer          io.Reader // nil = not asked yet
}

// Write implements net.Conn. p is a whole question after its length.
func (c *conversation) Write(p []byte) (int, error) {
	c.question = append(c.question, p...)
	return len(p), nil
}

// Read implements net.Conn.
func (c *conversation) Read(p []byte) (int, error) {
	if c.answer == nil {
		answer, err := c.ask()
		if err != nil {
			return 0, err
		}
		c.answer = bytes.NewReader(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
	}
	return c.answer.Read(p)
}

func (c *conversation) Close() error                     { return nil }
func (c *conversation) LocalAddr() net.Addr              { return nil }
func (c *conversation) RemoteAddr() net.Addr             { return nil }
func (c *conversation) SetDeadline(time.Time) error      { return nil } // ctx has the deadline
func (c *conversation) SetReadDeadline(time.Time) error  { return nil }
func (c *conversation) SetWriteDeadline(time.Time) error { return nil }

// ask asks the question.
func (c *conversation) ask() ([]byte, error) {
	query, name, kind := parseQuestion(c.question[min(2, len(c.question)):])
	if query == nil {
		return nil, errors.New("not a DNS question")
	}
	ctx, cancel := context.WithTimeout(c.ctx, c.lookup.resolver.patience(c.server))
	defer cancel()
	if kind == typeAAAA {
		defer c.endBehind(c.lookup.addresses(name), cancel)()
	}
	answer, err := c.exchange(ctx, query)
	switch {
	case err == nil:
		if kind == typeA && code(answer) == codeOK && binary.BigEndian.Uint16(answer[6:]) > 0 {
			closeOnce(c.lookup, name)
		}
		c.lookup.note(c.server, answered(answer))
	case kind == typeAAAA && isClosed(c.lookup.addresses(name)):
		// The server answers other questions only. The known addresses suffice.
		return noRecords(query), nil
	case c.ctx.Err() == nil || errors.Is(c.ctx.Err(), context.DeadlineExceeded):
		c.lookup.note(c.server, failure(err))
	}
	return answer, err
}

// endBehind cancels a question a little after known is closed. end stops the watch.
func (c *conversation) endBehind(known <-chan struct{}, cancel func()) (end func()) {
	ended := make(chan struct{})
	go func() {
		select {
		case <-ended:
			return
		case <-known:
		}
		select {
		case <-ended:
		case <-time.After(maxBehind):
			cancel()
		}
	}()
	return func() { close(ended) }
}

// exchange sends the question and returns the answer. An answer too long for a datagram is asked for by TCP;
// after a failure of TCP, the truncated part is used.
func (c *conversation) exchange(ctx context.Context, query []byte) ([]byte, error) {
	address := c.server
	if redirect := c.lookup.resolver.Redirect; redirect != nil {
		address = redirect(address)
	}
	if c.network != "udp" {
		return byTCP(ctx, address, query)
	}
	short, err := byUDP(ctx, address, query)
	if err != nil || flags(short)&flagTC == 0 {
		return withQuestion(query, short), err
	}
	limited, cancel := context.WithTimeout(c.ctx, maxQuestion)
	defer cancel()
	whole, err := byTCP(limited, address, query)
	if err == nil {
		return whole, nil
	}
	if binary.BigEndian.Uint16(short[6:]) == 0 {
		return nil, err
	}
	binary.BigEndian.PutUint16(short[2:], flags(short)&^flagTC)
	return short, nil
}

func byUDP(ctx context.Context, address string, query []byte) ([]byte, error) {
	conn, err := dial(ctx, "udp", address)
	if err != nil {
		return nil, err
	}
	defer end(ctx, conn)()
	if _, err := conn.Write(query); err != nil {
		return nil, late(ctx, err)
	}
	answer := make([]byte, maxMessage)
	for {
		n, err := conn.Read(answer)
		if err != nil {
			return nil, late(ctx, err)
		}
		if answers(query, answer[:n]) { // otherwise a foreign answer
			return answer[:n], nil
		}
	}
}

func byTCP(ctx context.Context, address string, query []byte) ([]byte, error) {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, late(ctx, err)
	}
	defer end(ctx, conn)()
	if _, err := conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(query))), query...)); err != nil {
		return nil, late(ctx, err)
	}
	var length [2]byte
	if _, err := io.ReadFull(conn, length[:]); err != nil {
		return nil, late(ctx, err)
	}
	answer := make([]byte, binary.BigEndian.Uint16(length[:]))
	if _, err := io.ReadFull(conn, answer); err != nil {
		return nil, late(ctx, err)
	}
	if !answers(query, answer) {
		return nil, errors.New("an answer to another question")
	}
	return answer, nil
}

func dial(ctx context.Context, network, address string) (net.Conn, error) {
	return new(net.Dialer).DialContext(ctx, network, address)
}

// end closes conn when ctx is done. The returned function closes conn at once.
func end(ctx context.Context, conn net.Conn) func() {
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	return func() { stop(); conn.Close() }
}

// late returns the error of a question after its deadline, which closes the connection.
func late(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return os.ErrDeadlineExceeded
	}
	return err
}

// parseQuestion returns the question of a message alone, without the EDNS0 record, its name in lower case and
// its type. query is nil unless the message has exactly one question.
func parseQuestion(message []byte) (query []byte, name string, kind uint16) {
	if len(message) < headerBytes || binary.BigEndian.Uint16(message[4:]) != 1 {
		return nil, "", 0
	}
	at := headerBytes
	for at < len(message) && message[at] != 0 {
		at += 1 + int(message[at])
	}
	if at+5 > len(message) {
		return nil, "", 0
	}
	query = bytes.Clone(message[:at+5])
	clear(query[6:headerBytes]) // no answers, authorities and additional records
	return query, string(bytes.ToLower(query[headerBytes:at])), binary.BigEndian.Uint16(query[at+1:])
}

func flags(message []byte) uint16 { return binary.BigEndian.Uint16(message[2:]) }
func code(message []byte) uint16  { return flags(message) & codeMask }

// answers reports whether a message is the answer to query. Some servers answer with an error and no question.
func answers(query, message []byte) bool {
	if len(message) < headerBytes || !bytes.Equal(message[:2], query[:2]) || flags(message)&flagResponse == 0 {
		return false
	}
	if binary.BigEndian.Uint16(message[4:]) == 0 {
		return code(message) != codeOK
	}
	return len(message) >= len(query) && bytes.EqualFold(message[headerBytes:len(query)], query[headerBytes:])
}

// noRecords returns an answer to query without records.
func noRecords(query []byte) []byte {
	answer := bytes.Clone(query)
	binary.BigEndian.PutUint16(answer[2:], flags(query)|flagResponse|flagRA)
	return answer
}

// withQuestion returns an answer with its question, which Go demands and some servers omit in an error.
func withQuestion(query, answer []byte) []byte {
	if len(answer) < headerBytes || binary.BigEndian.Uint16(answer[4:]) > 0 {
		return answer
	}
	whole := noRecords(query)
	binary.BigEndian.PutUint16(whole[2:], flags(whole)|code(answer))
	return whole
}

// answered describes a server's answer.
func answered(answer []byte) string {
	switch c := code(answer); c {
	case codeOK, codeNoName:
		return ""
	default:
		return "answered " + cmp.Or(codes[c], fmt.Sprintf("code %d", c))
	}
}

// failure describes a server without an answer.
func failure(err error) string {
	if errors.Is(err, syscall.ECONNREFUSED) {
		return "refused the question"
	}
	if errors.Is(err, os.ErrDeadlineExceeded) {
		return noAnswer
	}
	return "could not be asked: " + lastPart(err)
}

// lastPart returns the innermost error, without the addresses in the outer errors.
func lastPart(err error) string {
	for {
		inner := errors.Unwrap(err)
		if inner == nil {
			return err.Error()
		}
		err = inner
	}
}

func isClosed(c <-chan struct{}) bool {
	select {
	case <-c:
		return true
	default:
		return false
	}
}

// closeOnce notes that the IPv4 addresses of a name are known.
func closeOnce(l *lookup, name string) {
	known := l.addresses(name)
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if !isClosed(known) {
		close(known)
	}
}
