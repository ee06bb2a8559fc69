package client

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// TestReconnectTurns checks attempts after a failure: one at a time per broker, for any number of callers.
// Another broker never waits, and all callers continue at once after a success.
func TestReconnectTurns(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReconnect(func(failures int) time.Duration { return time.Duration(failures) * time.Second })
		begin := time.Now()
		var mtx sync.Mutex
		at := map[string][]time.Duration{}
		ask := func(addr string) {
			if err := r.turn(context.Background(), addr); err != nil {
				t.Error(err)
			}
			mtx.Lock()
			defer mtx.Unlock()
			at[addr] = append(at[addr], time.Since(begin))
			if len(at[addr]) < 4 {
				r.failed(addr)
			} else {
				r.worked(addr)
			}
		}
		for range 7 {
			go ask("one:9092")
			synctest.Wait()
		}
		go ask("other:9092")
		time.Sleep(time.Minute)
		mtx.Lock()
		defer mtx.Unlock()
		const s = time.Second
		if want := []time.Duration{0, s, 3 * s, 6 * s, 6 * s, 6 * s, 6 * s}; !slices.Equal(at["one:9092"], want) {
			t.Errorf("attempts at %v, want %v", at["one:9092"], want)
		}
		if len(at["other:9092"]) != 1 || at["other:9092"][0] != 0 {
			t.Errorf("the other broker was called at %v", at["other:9092"])
		}
	})
}

// TestReconnectGivenUp checks that an attempt waiting for a turn ends with the context.
func TestReconnectGivenUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		closing, closeAll := context.WithCancel(context.Background())
		d := &Dialer{closing: closing, reconnect: newReconnect(func(int) time.Duration { return time.Hour })}
		d.reconnect.failed("127.0.0.1:1")
		time.AfterFunc(time.Second, closeAll)
		conn, err := d.Dial(context.Background(), "tcp", "127.0.0.1:1")
		if op, ok := errors.AsType[*net.OpError](err); conn != nil || !ok || op.Op != "dial" || !errors.Is(err, context.Canceled) {
			t.Errorf("%v, %v", conn, err)
		}
	})
}

// TestReconnectForgets checks that brokers with a new address each time leave no memory behind, and that a
// broker in use is remembered.
func TestReconnectForgets(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		r := newReconnect(func(int) time.Duration { return time.Minute })
		for n := range 1000 {
			r.failed(fmt.Sprintf("10.0.0.1:%d", n))
			r.failed("other:9092")
			time.Sleep(10 * time.Minute)
		}
		if n := len(r.addrs); n > 10 {
			t.Errorf("%d addresses", n)
		}
		if n := r.addrs["other:9092"].failures; n != 1000 {
			t.Errorf("%d failures of the one that is asked for", n)
		}
	})
}
