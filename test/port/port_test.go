package port

import (
	"errors"
	"net"
	"syscall"
	"testing"
)

// TestReserved checks that connections are refused, and only the owner of the reservation can listen.
func TestReserved(t *testing.T) {
	r, err := Reserve()
	if err != nil {
		t.Fatal(err)
	}
	defer r.Close()
	if conn, err := net.Dial("tcp", r.Address()); !errors.Is(err, syscall.ECONNREFUSED) {
		t.Errorf("calling there: %v, %v", conn, err)
	}
	if l, err := net.Listen("tcp", r.Address()); !errors.Is(err, syscall.EADDRINUSE) {
		t.Errorf("listening there: %v, %v", l, err)
	}
	l, err := r.Listen()
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	r.Close() // which does not concern the listener
	if l.Addr().String() != r.Address() {
		t.Errorf("it listens at %s, not %s", l.Addr(), r.Address())
	}
	conn, err := net.Dial("tcp", r.Address())
	if err != nil {
		t.Fatal(err)
	}
	conn.Close()
	if _, err := r.Listen(); !errors.Is(err, net.ErrClosed) {
		t.Errorf("listening again: %v", err)
	}
}

// TestFree checks that no port is returned twice, and every port is ready for a listener.
func TestFree(t *testing.T) {
	seen := map[int]bool{}
	for range 100 {
		ports, err := Free(3)
		if err != nil || len(ports) != 3 {
			t.Fatalf("%v, %v", ports, err)
		}
		for _, one := range ports {
			if seen[one] || one >= 32768 {
				t.Errorf("port %d is given twice, or one of the kernel's", one)
			}
			seen[one] = true
		}
	}
}
