package throttle

import (
	"fmt"
	"testing"
	"time"
)

// clock is a manual clock.
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
	expect(t, th, "a", 2, true) // the two suppressed events come with the next line
	expect(t, th, "a", 0, false)
	c.advance(59 * time.Second) // still going on: the pause is doubled
	expect(t, th, "a", 0, false)
	c.advance(time.Second)
	expect(t, th, "a", 2, true)
}

// TestRarerWhileItGoesOn has a cause every second for hours: a line after 30 s, 1, 2, 5, 10 and 30 minutes,
// then a line an hour. The lines cover every event.
func TestRarerWhileItGoesOn(t *testing.T) {
	for name, line := range map[string]func(*Throttle) (int, bool){
		"by itself": func(th *Throttle) (int, bool) {
			suppressed, ok := th.Allow("a")
			return suppressed + 1, ok
		},
		"by Due": func(th *Throttle) (int, bool) {
			n, due := 0, th.Due() // before this second's event, which is for the next line
			for _, d := range due {
				n += d.Count
			}
			_, first := th.Allow("a")
			if first {
				n++
			}
			return n, first || len(due) > 0
		},
	} {
		th, c := newTest(30 * time.Second)
		var at []int
		events, told := 0, 0
		for second := range 4 * 3600 {
			events++
			if n, ok := line(th); ok {
				at, told = append(at, second), told+n
				if left := events - told; left != 0 && (left != 1 || name != "by Due" || second == 0) {
					t.Fatalf("%s: %d of %d told after %d s", name, told, events, second)
				}
			}
			c.advance(time.Second)
		}
		const want = "[0 30 90 210 510 1110 2910 6510 10110 13710]"
		if got := fmt.Sprint(at); got != want {
			t.Errorf("%s: lines after %s s, want %s", name, got, want)
		}
	}
}

// goOn continues a cause until its pause is an hour, and for a second more.
func goOn(th *Throttle, c *clock) {
	for range 6511 {
		th.Allow("a")
		c.advance(time.Second)
	}
}

// TestQuietEnds checks that an event after a quiet time is new: it has a line and the first pause.
func TestQuietEnds(t *testing.T) {
	th, c := newTest(30 * time.Second)
	goOn(th, c)
	th.Allow("a")
	c.advance(5*time.Minute - 1) // not quiet for long enough
	expect(t, th, "a", 0, false)
	c.advance(5 * time.Minute)
	expect(t, th, "a", 2, true)
	c.advance(29 * time.Second)
	expect(t, th, "a", 0, false)
	c.advance(time.Second)
	expect(t, th, "a", 1, true)
}

// TestDue checks that a count is returned once: after the last event, the pause, or the cause.
func TestDue(t *testing.T) {
	th, c := newTest(30 * time.Second)
	due := func(want string) {
		t.Helper()
		if got := fmt.Sprint(th.Due()); got != want {
			t.Fatalf("due %s, want %s", got, want)
		}
	}
	due("[]")
	th.Allow("a")
	th.AllowN("a", 5)
	wait := func(want time.Duration) {
		t.Helper()
		if got := th.Wait(); got != want {
			t.Fatalf("due in %v, want %v", got, want)
		}
	}
	wait(2 * time.Second)
	c.advance(2*time.Second - 1)
	due("[]")
	c.advance(1)
	wait(0)
	due("[{a 5}]") // the sum, for now
	due("[]")
	wait(time.Hour)
	th.Allow("a")
	c.advance(27 * time.Second)
	due("[]") // a single sum until the next line
	wait(time.Second)
	c.advance(time.Second)
	due("[{a 1}]")
	expect(t, th, "a", 0, false) // it had its line
	wait(2 * time.Second)
	c.advance(2 * time.Second)
	due("[{a 1}]")
	th.Allow("a")
	c.advance(57 * time.Second)
	due("[]")
	c.advance(time.Second)
	due("[{a 1}]")

	// With a pause of an hour, the number of an ended cause does not wait that long.
	goOn(th, c)
	th.Allow("a")
	c.advance(5 * time.Minute)
	if rest := th.Due(); len(rest) != 1 || rest[0].Key != "a" || rest[0].Count == 0 {
		t.Fatalf("due %v", rest)
	}
	if len(th.entries) != 0 {
		t.Errorf("%d keys are left", len(th.entries))
	}
	expect(t, th, "a", 0, true)
}

// TestForgetIsANewBeginning checks that a forgotten cause returns with its first pause.
func TestForgetIsANewBeginning(t *testing.T) {
	th, c := newTest(30 * time.Second)
	goOn(th, c)
	th.Forget("a")
	c.advance(28 * time.Second) // a line was a second before
	expect(t, th, "a", 0, false)
	c.advance(time.Second)
	expect(t, th, "a", 1, true)
	c.advance(29 * time.Second)
	expect(t, th, "a", 0, false)
	c.advance(time.Second)
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
	if got := fmt.Sprint(th.Due()); got != "[{ 1}]" {
		t.Fatalf("the evicted count is lost: %s", got)
	}
	if got := th.Flush(); got != nil {
		t.Fatalf("the evicted count comes again: %v", got)
	}
	// All keys with an expired pause go at once.
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
