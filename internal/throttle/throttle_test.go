package throttle

import (
	"fmt"
	"testing"
	"time"
)

// clock is a time that only moves when told to.
type clock struct{ t time.Time }

func (c *clock) now() time.Time           { return c.t }
func (c *clock) advance(by time.Duration) { c.t = c.t.Add(by) }

func newTest(every time.Duration) (*Throttle, *clock) {
	c := &clock{time.Unix(1_000_000, 0)}
	return New(every, c.now), c
}

func expect(t *testing.T, th *Throttle, key string, suppressed int, ok bool) {
	t.Helper()
	if n, got := th.Allow(key); n != suppressed || got != ok {
		t.Fatalf("Allow(%q) = %d, %v; want %d, %v", key, n, got, suppressed, ok)
	}
}

func TestOnePerInterval(t *testing.T) {
	th, c := newTest(30 * time.Second)
	expect(t, th, "a", 0, true)
	expect(t, th, "a", 0, false)
	expect(t, th, "b", 0, true) // another key is not held back
	c.advance(29 * time.Second)
	expect(t, th, "a", 0, false)
	c.advance(time.Second)
	expect(t, th, "a", 2, true) // the two that were held back come with the next
	expect(t, th, "a", 0, false)
	c.advance(30 * time.Second)
	expect(t, th, "a", 1, true)
}

func TestForget(t *testing.T) {
	th, c := newTest(30 * time.Second)
	if n := th.Forget("a"); n != 0 {
		t.Fatalf("unknown key: %d", n)
	}
	expect(t, th, "a", 0, true)
	expect(t, th, "a", 0, false)
	expect(t, th, "a", 0, false)
	if n := th.Forget("a"); n != 2 {
		t.Fatalf("Forget = %d, want 2", n)
	}
	expect(t, th, "a", 0, false) // coming back within the interval does not log again
	c.advance(30 * time.Second)
	expect(t, th, "a", 1, true)
}

func TestFlush(t *testing.T) {
	th, _ := newTest(30 * time.Second)
	for range 4 {
		th.Allow("a")
	}
	th.Allow("b")
	if got := fmt.Sprint(th.Flush()); got != "[{a 3}]" {
		t.Fatalf("Flush = %s", got)
	}
	if got := th.Flush(); got != nil {
		t.Fatalf("second Flush = %v", got)
	}
}

func TestKeysAreBounded(t *testing.T) {
	th, c := newTest(30 * time.Second)
	th.Allow("first")
	th.Allow("first")
	for i := range 2 * MaxKeys {
		c.advance(time.Millisecond)
		expect(t, th, fmt.Sprint(i), 0, true)
	}
	if len(th.entries) > MaxKeys {
		t.Fatalf("%d keys", len(th.entries))
	}
	if got := fmt.Sprint(th.Flush()); got != "[{ 1}]" {
		t.Fatalf("the evicted count is lost: %s", got)
	}
	// Keys whose interval is over go all at once.
	c.advance(time.Minute)
	expect(t, th, "new", 0, true)
	if len(th.entries) != 1 {
		t.Fatalf("%d keys are left, want 1", len(th.entries))
	}
}

func TestConcurrentUse(t *testing.T) {
	th := New(time.Hour, time.Now)
	const workers, each = 8, 1000
	done := make(chan int)
	for range workers {
		go func() {
			passed := 0
			for range each {
				if _, ok := th.Allow("k"); ok {
					passed++
				}
			}
			done <- passed
		}()
	}
	passed := 0
	for range workers {
		passed += <-done
	}
	if rest := th.Forget("k"); passed != 1 || rest != workers*each-1 {
		t.Fatalf("passed %d, suppressed %d of %d", passed, rest, workers*each)
	}
}

func TestAllowN(t *testing.T) {
	th, c := newTest(30 * time.Second)
	if n, ok := th.AllowN("a", 5); n != 0 || !ok {
		t.Fatalf("first: %d, %v", n, ok)
	}
	if n, ok := th.AllowN("a", 7); n != 0 || ok {
		t.Fatalf("within the interval: %d, %v", n, ok)
	}
	c.advance(30 * time.Second)
	if n, ok := th.AllowN("a", 100); n != 7 || !ok {
		t.Fatalf("after it: %d, %v", n, ok)
	}
}
