package client

import (
	"context"
	"net"
	"net/netip"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"reskafka/test/port"
)

// TestDial_FirstAddressSwallowsPackets_NextIsTried connects to a host with a silent address.
func TestDial_FirstAddressSwallowsPackets_NextIsTried(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	swallowed := make(chan struct{})
	d := &Dialer{TCP: (&net.Dialer{ControlContext: func(ctx context.Context, _, address string, _ syscall.RawConn) error {
		if strings.HasPrefix(address, "127.0.0.2:") {
			<-ctx.Done()
			close(swallowed)
		}
		return ctx.Err()
	}}).DialContext}
	addrs := []netip.Addr{netip.MustParseAddr("127.0.0.2"), netip.MustParseAddr("127.0.0.1")}
	conn, err := d.connectAny(t.Context(), "tcp", addrs, strconv.Itoa(l.Addr().(*net.TCPAddr).Port))
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	<-swallowed // the other attempt ends with the first success
}

// TestDial_AllRefuse_ReturnsFirstError checks the error of a host without a listener.
func TestDial_AllRefuse_ReturnsFirstError(t *testing.T) {
	free, err := port.Reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer free.Close()
	_, number, _ := net.SplitHostPort(free.Address())
	addrs := []netip.Addr{netip.MustParseAddr("127.0.0.1"), netip.MustParseAddr("127.0.0.1")}
	if conn, err := (&Dialer{TCP: (&net.Dialer{}).DialContext}).connectAny(t.Context(), "tcp", addrs, number); conn != nil || !strings.Contains(err.Error(), "refused") {
		t.Errorf("%v, %v", conn, err)
	}
}

func TestAlternating(t *testing.T) {
	parse := func(texts ...string) (addrs []netip.Addr) {
		for _, text := range texts {
			addrs = append(addrs, netip.MustParseAddr(text))
		}
		return addrs
	}
	for _, test := range []struct{ in, want []netip.Addr }{
		{parse("::1", "::2", "::3", "10.0.0.1"), parse("::1", "10.0.0.1", "::2", "::3")},
		{parse("10.0.0.1", "::1", "::2", "::3"), parse("10.0.0.1", "::1", "::2", "::3")},
		{parse("10.0.0.1", "10.0.0.2", "::1", "::2"), parse("10.0.0.1", "::1", "10.0.0.2", "::2")},
		{parse("10.0.0.1"), parse("10.0.0.1")},
	} {
		if got := alternating(test.in); !slices.Equal(got, test.want) {
			t.Errorf("%v: %v, want %v", test.in, got, test.want)
		}
	}
}
