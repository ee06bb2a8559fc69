package outbox

import (
	"fmt"
	"runtime"
	"runtime/debug"
	"sync"
	"syscall"
	"testing"
	"time"

	"reskafka/internal/record"
)

// window is a client that keeps some records, copies the bytes, and acknowledges the older half jointly from
// another goroutine, like a broker's answers.
type window struct {
	receiver
	most   int
	mtx    sync.Mutex
	ready  sync.Cond
	held   []*record.Record
	closed bool
	ended  chan struct{}
	copied []byte
}

func newWindow(most int) *window {
	c := &window{most: most, ended: make(chan struct{})}
	c.ready.L = &c.mtx
	go c.answer()
	return c
}

func (*window) Permanent(error) (string, bool) { return "", false }

func (c *window) Send(records []*record.Record, _ time.Time) {
	for _, r := range records {
		c.copied = append(append(c.copied, r.Key...), r.Value...)
		if len(c.copied) > 1<<18 {
			c.copied = c.copied[:0]
		}
	}
	c.mtx.Lock()
	c.held = append(c.held, records...)
	c.mtx.Unlock()
	c.ready.Signal()
}

func (c *window) answer() {
	defer close(c.ended)
	var some []*record.Record
	for {
		c.mtx.Lock()
		for len(c.held) == 0 && !c.closed {
			c.ready.Wait()
		}
		if len(c.held) == 0 {
			c.mtx.Unlock()
			return
		}
		n := min(max(1, len(c.held)/2), 2000)
		some = append(some[:0], c.held[:n]...)
		rest := copy(c.held, c.held[n:])
		clear(c.held[rest:])
		c.held = c.held[:rest]
		c.mtx.Unlock()
		c.answered(some, nil)
		clear(some)
	}
}

func (c *window) Close() {
	c.mtx.Lock()
	c.closed = true
	c.mtx.Unlock()
	c.ready.Signal()
	<-c.ended
}

// BenchmarkWay measures the path of records in the form of a busy stage's, with a wait inside a client.
func BenchmarkWay(b *testing.B) {
	ballast := make([]byte, 128<<20) // like the engine
	defer debug.SetGCPercent(debug.SetGCPercent(20))
	defer runtime.KeepAlive(ballast)
	for _, size := range []int{50, 300, 2000, 10_000} {
		b.Run(fmt.Sprint(size), func(b *testing.B) {
			gate := &limit{}
			gate.free.L = &gate.mtx
			c := newWindow(10_000)
			o := New(Settings{Timeout: time.Hour, WindowRecords: 20_000, WindowBytes: 16 << 20}, c, gate, gate)
			defer o.Close()
			n := max(1, min(128, 64<<10/(size+80)))
			key, value := make([]byte, 14), make([]byte, size)
			records := make([]record.Record, n)
			var before, after runtime.MemStats
			runtime.ReadMemStats(&before)
			used := cpu()
			b.ResetTimer()
			for i := 0; i < b.N; i += n {
				now := time.Now()
				gate.take(n, min(50_000, 32<<20/size))
				for j := range records {
					records[j] = record.Record{Topic: "t", Key: key, Value: value, Accepted: now, Charge: int64(size)}
				}
				o.Accept(records)
			}
			o.Drain(nil)
			b.StopTimer()
			used = cpu() - used
			runtime.ReadMemStats(&after)
			b.ReportMetric(float64(used)/float64(b.N), "cpu-ns/record")
			b.ReportMetric(float64(after.TotalAlloc-before.TotalAlloc)/float64(b.N), "B/record")
			b.ReportMetric(float64(after.Mallocs-before.Mallocs)/float64(b.N), "allocs/record")
		})
	}
}

// cpu returns the process's processor time.
func cpu() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// limit is a gate that admits records within a limit.
type limit struct {
	mtx  sync.Mutex
	free sync.Cond
	held int
}

func (l *limit) take(n, most int) {
	l.mtx.Lock()
	for l.held > most {
		l.free.Wait()
	}
	l.held += n
	l.mtx.Unlock()
}

func (l *limit) give(n int) {
	l.mtx.Lock()
	l.held -= n
	l.mtx.Unlock()
	l.free.Signal()
}

func (l *limit) Release(*record.Record)              { l.give(1) }
func (l *limit) ReleaseAll(records []*record.Record) { l.give(len(records)) }
func (*limit) Panicked(any)                          {}
func (*limit) Spooling(error)                        {}
func (*limit) Dropped(string, string, int, error)    {}
func (*limit) Died(string, string, int, error)       {}
