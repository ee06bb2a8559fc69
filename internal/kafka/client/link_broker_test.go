package client

import (
	"encoding/binary"
	"io"
	"net"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/test/kafkatest"
)

// linkBroker is a broker at the other end of links. Several goroutines may call its functions.
type linkBroker struct {
	t      *testing.T
	listen net.Listener
	start  func() // once setUp and serve are set
	opened atomic.Int32
	setUp  func(connection int32, request kmsg.Request) kmsg.Response // nil = the connection is reset
	serve  func(conn net.Conn, frame []byte) bool                     // a request of links; false = nothing else is read
}

func newLinkBroker(t *testing.T) *linkBroker {
	t.Helper()
	listen, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	b := &linkBroker{t: t, listen: listen, serve: acknowledge}
	b.setUp = func(_ int32, request kmsg.Request) kmsg.Response { return versionsAnswer(request) }
	b.start = sync.OnceFunc(func() { b.accept() })
	return b
}

// accept serves connections until the test ends.
func (b *linkBroker) accept() {
	listen, t := b.listen, b.t
	var group sync.WaitGroup
	var mtx sync.Mutex
	var conns []net.Conn
	group.Go(func() {
		for {
			conn, err := listen.Accept()
			if err != nil {
				return
			}
			mtx.Lock()
			conns = append(conns, conn)
			mtx.Unlock()
			number := b.opened.Add(1)
			group.Go(func() { b.converse(conn, number) })
		}
	})
	t.Cleanup(func() {
		listen.Close()
		mtx.Lock()
		for _, conn := range conns {
			conn.Close()
		}
		mtx.Unlock()
		group.Wait()
	})
}

// acknowledge answers a request without a word about partitions.
func acknowledge(conn net.Conn, frame []byte) bool {
	response := kmsg.NewPtrProduceResponse()
	response.Version = int16(binary.BigEndian.Uint16(frame[2:]))
	return respond(conn, frame, response)
}

// respond answers a request.
func respond(conn net.Conn, frame []byte, response kmsg.Response) bool {
	bytes := append(make([]byte, 4), frame[4:8]...)
	if response.IsFlexible() && response.Key() != int16(kmsg.ApiVersions) {
		bytes = append(bytes, 0)
	}
	bytes = response.AppendTo(bytes)
	binary.BigEndian.PutUint32(bytes, uint32(len(bytes)-4))
	_, err := conn.Write(bytes)
	return err == nil
}

// versionsAnswer lists Produce version 9 and the requests of a login.
func versionsAnswer(request kmsg.Request) kmsg.Response {
	answer := request.ResponseKind().(*kmsg.ApiVersionsResponse)
	for _, key := range []kmsg.Key{kmsg.Produce, kmsg.Metadata, kmsg.ApiVersions, kmsg.SASLHandshake, kmsg.SASLAuthenticate} {
		newest := int16(9)
		if key == kmsg.SASLHandshake || key == kmsg.SASLAuthenticate {
			newest = 1
		}
		answer.ApiKeys = append(answer.ApiKeys, kmsg.ApiVersionsResponseApiKey{ApiKey: int16(key), MaxVersion: newest})
	}
	return answer
}

func readFrame(conn net.Conn) ([]byte, error) {
	var size [4]byte
	if _, err := io.ReadFull(conn, size[:]); err != nil {
		return nil, err
	}
	frame := make([]byte, binary.BigEndian.Uint32(size[:]))
	_, err := io.ReadFull(conn, frame)
	return frame, err
}

func (b *linkBroker) converse(conn net.Conn, number int32) {
	for {
		frame, err := readFrame(conn)
		if err != nil {
			return
		}
		key, version := int16(binary.BigEndian.Uint16(frame)), int16(binary.BigEndian.Uint16(frame[2:]))
		if !IsSetup(key) {
			if !b.serve(conn, frame) {
				return
			}
			continue
		}
		request := kmsg.RequestForKey(key)
		request.SetVersion(version)
		client := int(binary.BigEndian.Uint16(frame[8:]))
		body := frame[10+client:]
		if request.IsFlexible() {
			body = body[1:]
		}
		if err := request.ReadFrom(body); err != nil {
			b.t.Errorf("request %d: %v", key, err)
			return
		}
		response := b.setUp(number, request)
		if response == nil {
			_ = conn.(*net.TCPConn).SetLinger(0)
			conn.Close()
			return
		}
		if !respond(conn, frame, response) {
			return
		}
	}
}

// link returns a link to the broker, of a client with options.
func (b *linkBroker) link(adjust ...func(*config.Connection)) *Link {
	b.t.Helper()
	c := kafkatest.Connection(b.listen.Addr().String())
	for _, fn := range adjust {
		fn(c)
	}
	status := &Status{}
	log := NewLogger(c, nil)
	d, err := NewDialer(c, b.t.Context(), status, log)
	if err != nil {
		b.t.Fatal(err)
	}
	links, err := NewLinks(c, d, NewHooks(c, "records wait", nil, status, time.Now), log)
	if err != nil {
		b.t.Fatal(err)
	}
	links.Key, links.MinVersion = kmsg.Produce, 3
	l := links.To(0)
	b.at(l)
	b.t.Cleanup(func() { l.Close(); links.Wait() })
	return l
}

// at sets a link's address to the broker's.
func (b *linkBroker) at(l *Link) {
	b.start()
	host, port, _ := net.SplitHostPort(b.listen.Addr().String())
	number, _ := strconv.Atoi(port)
	l.Move(host, int32(number), true)
}

// parcel is a request of a test: a header and zeros.
type parcel struct {
	size      int
	acks      bool
	body      []byte
	appended  atomic.Int32
	unwritten atomic.Int32
	ended     chan error
}

func newParcel(size int) *parcel { return &parcel{size: size, acks: true, ended: make(chan error, 2)} }

func (p *parcel) Size() int { return p.size }

func (p *parcel) Append(to *Parts, version int16, correlation int32) error {
	p.appended.Add(1)
	to.Own = binary.BigEndian.AppendUint32(to.Own, uint32(p.size-4))
	to.Own = binary.BigEndian.AppendUint16(to.Own, uint16(kmsg.Produce))
	to.Own = binary.BigEndian.AppendUint16(to.Own, uint16(version))
	to.Own = binary.BigEndian.AppendUint32(to.Own, uint32(correlation))
	p.body = make([]byte, p.size-12)
	if p.acks { // behind an empty client id, no tags and no transaction
		p.body[4] = 1
	}
	to.Refer(p.body)
	return nil
}

func (p *parcel) Unwritten()                         { p.unwritten.Add(1) }
func (p *parcel) Ended(_ int16, _ []byte, err error) { p.ended <- err }

// end waits for the end of a request.
func (p *parcel) end(t *testing.T) error {
	t.Helper()
	select {
	case err := <-p.ended:
		return err
	case <-time.After(kafkatest.Patience):
		t.Fatal("a request does not end")
	}
	return nil
}

func (p *parcel) succeeds(t *testing.T) {
	t.Helper()
	if err := p.end(t); err != nil {
		t.Fatal(err)
	}
}
