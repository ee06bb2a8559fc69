package serve

import (
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"reflect"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"reskafka/internal/boundary"
	"reskafka/internal/boundary/boundarytest"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/ingest"
	"reskafka/internal/serve/servetest"
	"reskafka/test/port"
)

// hostileTime is for how long modules are hostile.
func hostileTime() time.Duration {
	if os.Getenv("RES_KAFKA_LONG") != "" {
		return 2 * time.Minute
	}
	return 3 * time.Second
}

// TestServer_HostileModule_Unharmed verifies that no frame and no word of shared memory makes the engine
// panic, hang, or send an unreadable answer. Requests have random fields, are damaged, repeated or unknown,
// during writes to shared memory.
func TestServer_HostileModule_Unharmed(t *testing.T) {
	before := runtime.NumGoroutine()
	broker := port.Refused(t)
	rounds := uint64(0)
	for end := time.Now().Add(hostileTime()); time.Now().Before(end); rounds++ {
		if !t.Run(fmt.Sprint(rounds), func(t *testing.T) { hostileRound(t, rand.New(rand.NewPCG(9, rounds)), broker) }) {
			break
		}
	}
	t.Logf("%d rounds", rounds)
	servetest.Eventually(t, "the goroutines of all servers have ended", func() bool { return runtime.NumGoroutine() <= before+2 })
}

// hostile is a module with arbitrary messages.
type hostile struct {
	t      *testing.T
	rng    *rand.Rand
	socket *os.File
	conn   *boundary.Conn // the same end
	number uint64
}

func hostileRound(t *testing.T, rng *rand.Rand, broker string) {
	ours, theirs := servetest.Sockets(t)
	memory := servetest.NewMemory(t)
	server := New(boundary.NewConn(theirs, boundary.EngineSide))
	server.exit = func(status int) { t.Errorf("the process ends with status %d", status) }
	server.times.gone = 10 * time.Millisecond
	control, slabs, wake := memory.Duplicates()
	in, err := ingest.Open(control, slabs, wake, server.Log())
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan error, 1)
	go func() { done <- server.Run(in, nil) }()
	m := &hostile{t: t, rng: rng, socket: ours, conn: boundary.NewConn(ours, boundary.ModuleSide)}
	read := make(chan struct{})
	go m.read(read)
	m.begin(t.TempDir(), broker)
	memory.Put(1, "one", frametest.Frame{Topic: "topic", Value: []byte("value")})
	scribbled := make(chan struct{})
	stop := make(chan struct{})
	go scribble(t, memory, rng.Uint64(), stop, scribbled)
	for range rng.IntN(400) {
		if m.send() != nil {
			break // the engine has closed the connection
		}
	}
	_ = m.conn.Close()
	select {
	case err = <-done:
	case <-time.After(servetest.Patience):
		buffer := make([]byte, 1<<20)
		t.Fatalf("the server does not end\n%s", buffer[:runtime.Stack(buffer, true)])
	}
	close(stop)
	<-scribbled
	<-read
	if err != nil && !errors.Is(err, boundary.ErrFormat) {
		t.Errorf("the server ends with %v", err)
	}
}

// read checks that the module can read every frame of the engine, and that no frame reports a panic.
func (m *hostile) read(done chan<- struct{}) {
	defer close(done)
	for {
		f, err := m.conn.Read()
		if err != nil {
			if errors.Is(err, boundary.ErrFormat) {
				m.t.Errorf("the engine sent %v", err)
			}
			return
		}
		body := boundary.NewRequest(f.Kind)
		if f.Answer {
			body = boundary.NewAnswer(f.Kind)
		}
		if err := f.Decode(body); err != nil {
			m.t.Errorf("the engine sent %v", err)
		}
		if line, ok := body.(*boundary.LogRequest); ok && strings.Contains(line.Text, "panicked") {
			m.t.Errorf("%s", line.Text)
		}
	}
}

// begin sends the first messages of a good module.
func (m *hostile) begin(dir, broker string) {
	m.request(boundary.HelloKind, &boundary.HelloRequest{ABI: boundary.ABIVersion, Build: boundary.Build, SpoolDir: dir})
	m.request(boundary.ConfigureKind, &boundary.ConfigureRequest{Entries: entriesOf(
		section("one", broker, "durability = disk") + section("two", broker, "group_id = two"))})
	m.request(boundary.ReportsOpenKind, &boundary.ReportsOpenRequest{ID: 1})
	m.request(boundary.SubscribeKind, &boundary.SubscribeRequest{Name: "two", Topics: "topic", ID: 1})
	m.request(boundary.ProducerOpenKind, &boundary.ProducerOpenRequest{Name: "one", ID: 1})
	m.request(boundary.NextKind, &boundary.NextRequest{ID: 1})
	m.request(boundary.ReportsNextKind, &boundary.ReportsNextRequest{ID: 1})
}

func (m *hostile) request(kind boundary.Kind, body boundary.Body) {
	m.number++
	if err := m.conn.Request(kind, m.number, body); err != nil {
		m.t.Fatal(err)
	}
}

// send sends a request of the table with random fields, some of which make sense, and damages some.
func (m *hostile) send() error {
	row := &boundary.Messages[m.rng.IntN(len(boundary.Messages))]
	switch row.Kind {
	case boundary.HelloKind, boundary.StopKind: // both end the round
		if m.rng.IntN(50) > 0 {
			return nil
		}
	case boundary.FaultKind: // would obey the request
		return nil
	}
	body := boundary.NewRequest(row.Kind)
	if body != nil {
		boundarytest.Fill(m.rng, body)
		m.makeSense(reflect.ValueOf(body).Elem())
	}
	var number uint64
	if !row.OneWay {
		m.number++
		number = m.number
	}
	bytes := boundarytest.Encode(row.Kind, false, number, body)
	if m.rng.IntN(150) == 0 {
		m.spoil(bytes)
	}
	if m.rng.IntN(1000) == 0 {
		bytes = bytes[:m.rng.IntN(len(bytes))]
	}
	_, err := m.socket.Write(bytes)
	return err
}

// makeSense sets fields to meaningful values.
func (m *hostile) makeSense(body reflect.Value) {
	for name, values := range map[string][]any{
		"ID": {uint64(0), uint64(1), uint64(2), uint64(4095)}, "Name": {"one", "two", "one", ""}, "Topics": {"topic", "^t.*", "a,b,,", ""},
		"Topic": {"topic", "", "..", "t"}, "Kind": {"cdr", "cel", "", "cdr"}, "Index": {uint32(0), uint32(3), uint32(7), uint32(11)},
		"GraceMS": {uint32(0), uint32(1), uint32(5), uint32(10)}, "Source": {uint64(0), uint64(1), uint64(1) << 32, uint64(1)<<32 + 1},
		"Words": {[]string{"kafka", "show", "status"}, []string{"kafka", "show", "connection", "one"}, []string{"kafka", "spool"}, []string{}},
	} {
		if f := body.FieldByName(name); f.IsValid() && m.rng.IntN(3) > 0 {
			f.Set(reflect.ValueOf(values[m.rng.IntN(len(values))]))
		}
	}
}

// spoil changes some bytes, rarely of the head.
func (m *hostile) spoil(bytes []byte) {
	for range 1 + m.rng.IntN(3) {
		from := 16
		if len(bytes) <= from || m.rng.IntN(6) == 0 {
			from = 0
		}
		at := from + m.rng.IntN(len(bytes)-from)
		if m.rng.IntN(2) == 0 || at+4 > len(bytes) {
			bytes[at] = byte(m.rng.Uint32())
		} else {
			binary.LittleEndian.PutUint32(bytes[at:], []uint32{0, 1, 0x7fffffff, 0xffffffff, uint32(len(bytes))}[m.rng.IntN(5)])
		}
	}
}

// scribble writes words to the shared memory until stop is closed.
func scribble(t *testing.T, memory *servetest.Memory, seed uint64, stop <-chan struct{}, done chan<- struct{}) {
	defer close(done)
	control, slabs, wake := memory.Duplicates()
	defer syscall.Close(control)
	defer syscall.Close(slabs)
	defer syscall.Close(wake)
	rng := rand.New(rand.NewPCG(seed, 3))
	var all [][]byte
	for _, fd := range []int{control, slabs} {
		var status syscall.Stat_t
		if err := syscall.Fstat(fd, &status); err != nil {
			t.Error(err)
			return
		}
		bytes, err := syscall.Mmap(fd, 0, int(status.Size), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
		if err != nil {
			t.Error(err)
			return
		}
		defer func() { _ = syscall.Munmap(bytes) }()
		all = append(all, bytes[:min(len(bytes), 256<<10)])
	}
	for {
		select {
		case <-stop:
			return
		case <-time.After(100 * time.Microsecond):
		}
		bytes := all[rng.IntN(2)]
		size := len(bytes)
		if rng.IntN(2) == 0 {
			size = 2 << 10 // ring and the first slab
		}
		at := rng.IntN(size/8) * 8
		binary.NativeEndian.PutUint64(bytes[at:], []uint64{0, 1, 8, 24, 0xffff, 1 << 31, 1 << 32, 1<<63 - 1, 1<<64 - 1, rng.Uint64()}[rng.IntN(10)])
		if rng.IntN(20) == 0 {
			_, _ = syscall.Write(wake, []byte{1, 0, 0, 0, 0, 0, 0, 0})
		}
	}
}
