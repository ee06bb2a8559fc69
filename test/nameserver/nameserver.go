// Package nameserver is a DNS server for tests, with the bad habits of some.
package nameserver

import (
	"bytes"
	"encoding/binary"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// Codes of answers: RFC 1035, section 4.1.1.
const (
	FormErr  = 1
	ServFail = 2
	NXDomain = 3
	NotImp   = 4
)

// Types of questions.
const (
	A    = 1
	AAAA = 28
)

// Question is a question to the server.
type Question struct {
	Name string // in lower case, without a dot at the end
	Type uint16
	EDNS bool // with an EDNS0 record
	TCP  bool
}

// Answer is the server's answer.
type Answer struct {
	Drop      bool // nothing
	Code      byte
	Truncated bool
	Bare      bool // without the question
	Addresses []net.IP
	After     time.Duration
}

// Server is a DNS server.
type Server struct {
	Address string // ip:port, of UDP and TCP
	Asked   atomic.Int64
	EDNS    atomic.Int64 // questions with an EDNS0 record
	answer  func(Question) Answer
}

// Honest returns an answer with the addresses of the question's type.
func Honest(addresses ...string) func(Question) Answer {
	return func(q Question) Answer {
		var a Answer
		for _, text := range addresses {
			if ip := net.ParseIP(text); (ip.To4() != nil) == (q.Type == A) && (q.Type == A || q.Type == AAAA) {
				a.Addresses = append(a.Addresses, ip)
			}
		}
		return a
	}
}

// Start starts a server at address, ip:port; port 0 is any. The server ends with the test.
func Start(t testing.TB, address string, answer func(Question) Answer) *Server {
	t.Helper()
	s := &Server{answer: answer}
	var packets net.PacketConn
	for {
		stream, err := net.Listen("tcp", address)
		if err != nil {
			t.Fatal(err)
		}
		if packets, err = net.ListenPacket("udp", stream.Addr().String()); err == nil {
			s.Address = stream.Addr().String()
			t.Cleanup(func() { packets.Close(); stream.Close() })
			go s.streams(stream)
			go s.packets(packets)
			return s
		}
		stream.Close()
		if !strings.HasSuffix(address, ":0") { // else the port is free for TCP only
			t.Fatal(err)
		}
	}
}

func (s *Server) packets(conn net.PacketConn) {
	for {
		message := make([]byte, 1500)
		n, from, err := conn.ReadFrom(message)
		if err != nil {
			return
		}
		go func() {
			if answer := s.handle(message[:n], false); answer != nil {
				_, _ = conn.WriteTo(answer, from)
			}
		}()
	}
}

func (s *Server) streams(l net.Listener) {
	for {
		conn, err := l.Accept()
		if err != nil {
			return
		}
		go func() {
			defer conn.Close()
			for {
				var length [2]byte
				if _, err := io.ReadFull(conn, length[:]); err != nil {
					return
				}
				message := make([]byte, binary.BigEndian.Uint16(length[:]))
				if _, err := io.ReadFull(conn, message); err != nil {
					return
				}
				answer := s.handle(message, true)
				if answer == nil {
					continue
				}
				_, _ = conn.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(answer))), answer...))
			}
		}()
	}
}

// handle returns the answer to a message: RFC 1035, section 4.
func (s *Server) handle(message []byte, tcp bool) []byte {
	const header = 12
	if len(message) < header+5 {
		return nil
	}
	var labels []string
	at := header
	for message[at] != 0 {
		labels = append(labels, string(message[at+1:at+1+int(message[at])]))
		at += 1 + int(message[at])
	}
	end := at + 5
	q := Question{
		Name: strings.ToLower(strings.Join(labels, ".")), Type: binary.BigEndian.Uint16(message[at+1:]),
		EDNS: binary.BigEndian.Uint16(message[10:]) > 0, TCP: tcp,
	}
	s.Asked.Add(1)
	if q.EDNS {
		s.EDNS.Add(1)
	}
	a := s.answer(q)
	time.Sleep(a.After)
	if a.Drop {
		return nil
	}
	out := bytes.Clone(message[:end])
	out[2], out[3] = 0x81, 0x80|a.Code
	if a.Truncated {
		out[2] |= 2
	}
	clear(out[6:header])
	if a.Bare {
		clear(out[4:6])
		return out[:header]
	}
	out[7] = byte(len(a.Addresses))
	for _, ip := range a.Addresses {
		raw := ip.To4()
		if q.Type == AAAA {
			raw = ip.To16()
		}
		out = append(out, 0xc0, header, byte(q.Type>>8), byte(q.Type), 0, 1, 0, 0, 0, 60, 0, byte(len(raw)))
		out = append(out, raw...)
	}
	return out
}
