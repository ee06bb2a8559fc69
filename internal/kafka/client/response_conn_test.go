package client

import (
	"encoding/binary"
	"errors"
	"io"
	"net"
	"runtime"
	"runtime/debug"
	"testing"

	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
)

// TestCheckedConn_RefusedResponseBehindAnother_IsOfItsRequest checks that a sound response together with a
// refused response is passed on. Otherwise the wrong request, or none, would get the refusal.
func TestCheckedConn_RefusedResponseBehindAnother_IsOfItsRequest(t *testing.T) {
	conn, broker := net.Pipe()
	t.Cleanup(func() { conn.Close(); broker.Close() })
	c := newCheckedConn(conn, "broker:9092", &config.Connection{}, nil)
	response := func(number int32, body []byte) []byte {
		b := binary.BigEndian.AppendUint32(nil, uint32(4+len(body)))
		return append(binary.BigEndian.AppendUint32(b, uint32(number)), body...)
	}
	good := kmsg.NewPtrHeartbeatResponse()
	good.Version = 4
	sound := response(1, append([]byte{0}, good.AppendTo(nil)...))
	refused := response(2, append([]byte{0xff, 0xff, 0xff, 0xff, 0x0f}, make([]byte, 15)...))
	c.waiting = []sentRequest{{key: kmsg.Heartbeat, version: 4, number: 1}, {key: kmsg.FindCoordinator, version: 4, number: 2}}
	go func() { _, _ = broker.Write(append(sound, refused...)) }()

	all := make([]byte, 4096)
	n, err := c.Read(all)
	if err != nil || n != len(sound) || string(all[:n]) != string(sound) {
		t.Fatalf("read %d bytes, %v, want the %d of the first response", n, err, len(sound))
	}
	_, err = c.Read(all)
	if why, ok := errors.AsType[*refusedResponse](err); !ok || why.key != kmsg.FindCoordinator || errors.Is(err, io.EOF) {
		t.Errorf("then came %v", err)
	}
}

// TestCheckedConn_LargeResponse_GarbageIsGivenBack checks that the buffer of an earlier response is neither in
// the heap nor kept free for the heap when a large response begins.
func TestCheckedConn_LargeResponse_GarbageIsGivenBack(t *testing.T) {
	conn, broker := net.Pipe()
	t.Cleanup(func() { conn.Close(); broker.Close() })
	c := newCheckedConn(conn, "broker:9092", &config.Connection{}, nil)
	c.waiting = []sentRequest{{key: kmsg.Fetch, version: 11, number: 1}}
	go func() { _, _ = broker.Write(binary.BigEndian.AppendUint32(nil, largeResponse+1)) }()

	const earlier = 64 << 20
	debug.FreeOSMemory()
	before := heapWithPages()
	buffer := make([]byte, earlier)
	runtime.KeepAlive(buffer)
	if with := heapWithPages(); with < before+earlier/2 {
		t.Fatalf("%d bytes of heap before and %d with the buffer: nothing is tested", before, with)
	}
	if n, err := c.Read(make([]byte, 4)); n != 4 || err != nil {
		t.Fatal(n, err)
	}
	if after := heapWithPages(); after > before+earlier/2 {
		t.Errorf("%d bytes of heap before the earlier response, %d at the begin of the next", before, after)
	}
}

// heapWithPages returns how many bytes of the heap may have pages: used ranges, and free ranges kept by Go.
func heapWithPages() uint64 {
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return m.HeapSys - m.HeapReleased
}
