package wan

import (
	"errors"
	"fmt"
	"io"
	"net"
	"slices"
	"time"
)

// Quality is a link as measured between two local sockets.
type Quality struct {
	RoundTrip, Longest time.Duration // of a byte: the median, and the longest
	BytesPerSecond     float64       // one way, from the first byte's arrival to the last's
}

// Probe measures a new link with this delay: rounds single bytes there and back, then volume bytes.
func Probe(oneWay time.Duration, rounds int, volume int64) (q Quality, err error) {
	far, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return q, err
	}
	defer far.Close()
	link, err := New(oneWay)
	if err != nil {
		return q, err
	}
	defer func() { err = errors.Join(err, link.Close()) }()
	link.Use(far.Addr().String())
	near, err := net.Dial("tcp", link.Address())
	if err != nil {
		return q, err
	}
	defer near.Close()
	other, err := far.Accept()
	if err != nil {
		return q, err
	}
	defer other.Close()
	if q.RoundTrip, q.Longest, err = roundTrips(near, other, rounds); err != nil {
		return q, fmt.Errorf("measuring round trips: %w", err)
	}
	if q.BytesPerSecond, err = speed(near, other, volume); err != nil {
		return q, fmt.Errorf("measuring throughput: %w", err)
	}
	return q, nil
}

func roundTrips(near, far net.Conn, rounds int) (middle, longest time.Duration, err error) {
	var times []time.Duration
	var one [1]byte
	for range max(rounds, 1) {
		began := time.Now()
		_, err := near.Write(one[:])
		for _, step := range []func() error{
			func() error { _, err := io.ReadFull(far, one[:]); return err },
			func() error { _, err := far.Write(one[:]); return err },
			func() error { _, err := io.ReadFull(near, one[:]); return err },
		} {
			if err == nil {
				err = step()
			}
		}
		if err != nil {
			return 0, 0, err
		}
		times = append(times, time.Since(began))
	}
	slices.Sort(times)
	return times[len(times)/2], times[len(times)-1], nil
}

func speed(near, far net.Conn, volume int64) (float64, error) {
	sent := make(chan error, 1)
	go func() {
		block := make([]byte, chunk)
		var err error
		for left := volume; left > 0 && err == nil; left -= int64(len(block)) {
			_, err = near.Write(block[:min(left, int64(len(block)))])
		}
		sent <- err
	}()
	var first [1]byte
	_, err := io.ReadFull(far, first[:])
	began := time.Now()
	if err == nil {
		_, err = io.CopyN(struct{ io.Writer }{io.Discard}, far, volume-1) // by copies, as a broker
	}
	took := time.Since(began)
	return float64(volume-1) / took.Seconds(), errors.Join(err, <-sent)
}
