package outbox

import (
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
	"reskafka/internal/spool"
)

// faulty is a disk of which single calls fail or panic.
type faulty struct {
	*disk
	reads   func() error
	appends func() error
}

func (f *faulty) Read(topic string, from uint64, most, bytes int) ([]*record.Record, []uint64, uint64, error) {
	if f.reads != nil {
		if err := f.reads(); err != nil {
			return nil, nil, from, err
		}
	}
	return f.disk.Read(topic, from, most, bytes)
}

func (f *faulty) Append(topic string, records []*record.Record) (uint64, error) {
	if f.appends != nil {
		if err := f.appends(); err != nil {
			return 0, err
		}
	}
	return f.disk.Append(topic, records)
}

// holding returns a disk with records of a topic.
func holding(t *testing.T, topic string, n int) *disk {
	d := newDisk(func(what string) { t.Error(what) })
	l := &diskLog{first: 1, next: uint64(n) + 1, records: map[uint64]*record.Record{}}
	for i := range n {
		l.records[uint64(i+1)] = &record.Record{Topic: topic, Value: fmt.Append(nil, i), Accepted: time.Now()}
	}
	d.logs[topic] = l
	return d
}

// Trouble with reading is over when reading works, and lasts while only writing does.
func TestTroubleWithReading(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := usual
		s.Durability = record.Disk
		h, c := &trouble{}, newClient("client", s, fixed(answer{}))
		var bad atomic.Bool
		bad.Store(true)
		d := &faulty{disk: holding(t, "old", 10), reads: func() error {
			if bad.Load() {
				return errDisk
			}
			return nil
		}}
		o := New(s, c, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		for i := range 1000 {
			o.Accept([]record.Record{numbered("new", i, record.Disk)})
			after(10 * time.Millisecond)
		}
		if n := len(h.said); n == 0 || n > 30 {
			t.Errorf("%d times something was said of the spool in 10 seconds, the last %v", n, h.said[max(0, n-2):])
		}
		if _, err, _ := o.Usage(); !errors.Is(err, errDisk) {
			t.Errorf("trouble while nothing can be read: %v", err)
		}
		bad.Store(false)
		after(2 * time.Second)
		if _, err, _ := o.Usage(); err != nil {
			t.Errorf("trouble when all was read: %v", err)
		}
		o.Close()
	})
}

// A retry while the spool is full sends nothing twice, whether the trouble is known before or found during
// the retry.
func TestRetryWhileTheSpoolIsFull(t *testing.T) {
	for _, known := range []bool{true, false} {
		t.Run(fmt.Sprintf("known %v", known), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) { retryWhileFull(t, known) })
		})
	}
}

func retryWhileFull(t *testing.T, known bool) {
	s := usual
	s.Durability = record.Disk
	var sent atomic.Int64
	h := &trouble{}
	c := newClient("client", s, func(r *record.Record) answer {
		if string(r.Value) == "dead" {
			sent.Add(1)
		}
		return answer{after: 3 * time.Second}
	})
	var full atomic.Bool
	d := &faulty{disk: newDisk(func(what string) { t.Error(what) }), appends: func() error {
		if full.Load() {
			return spool.ErrFull
		}
		return nil
	}}
	d.left(&record.Record{Topic: "t", Value: []byte("dead")})
	o := New(s, c, h, h)
	o.Attach(func() (Spool, error) { return d, nil })
	full.Store(true)
	if known {
		o.Accept([]record.Record{numbered("other", 1, record.Disk)})
	}
	after(time.Second / 2)
	for range 3 {
		if _, _, err := o.Retry(""); !errors.Is(err, spool.ErrFull) {
			t.Errorf("Retry while the spool is full: %v", err)
		}
	}
	full.Store(false)
	after(10 * time.Second)
	if _, _, err := o.Retry(""); err != nil {
		t.Errorf("Retry: %v", err)
	}
	after(10 * time.Second)
	if sent.Load() != 1 || len(d.dead) != 0 {
		t.Errorf("sent %d times, %d dead letters", sent.Load(), len(d.dead))
	}
	o.Close()
}

// Dead letters refused again at once are sent once for each request.
func TestRetryOfWhatIsRefusedAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := usual
		s.Durability, s.WindowRecords = record.Disk, 10_000
		var sends atomic.Int64
		h := &trouble{}
		c := newClient("client", s, func(r *record.Record) answer {
			if sends.Add(1) > 50_000 {
				return answer{}
			}
			return answer{err: errRefused, inline: true}
		})
		d := newDisk(func(what string) { t.Error(what) })
		d.slow = func() time.Duration { return 10 * time.Millisecond }
		for i := range readMost + 10 {
			d.left(&record.Record{Topic: "t", Value: fmt.Append(nil, i)})
		}
		o := New(s, c, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		n, _, err := o.Retry("")
		if n != readMost+10 || err != nil {
			t.Errorf("Retry: %d, %v", n, err)
		}
		after(time.Minute)
		if n := sends.Load(); n != readMost+10 || len(d.dead) != readMost+10 {
			t.Errorf("%d sent, %d dead letters", n, len(d.dead))
		}
		o.Close()
	})
}

// A stop counts as left for the next run only records still staged, not records lost by a full spool.
func TestGivenUpIsNotLeft(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := usual
		s.Durability, s.DropOldest = record.Disk, true
		h, c := &trouble{}, newClient("client", s, fixed(answer{err: errRetry}))
		d := newDisk(func(what string) { t.Error(what) })
		d.most = 10
		o := New(s, c, h, h)
		o.Attach(func() (Spool, error) { return d, nil })
		for i := range 20 {
			r := numbered("t", i, record.Disk)
			r.Staged, r.Lasting = &atomic.Uint32{}, true
			o.Accept([]record.Record{r})
			synctest.Wait()
		}
		o.Close()
		if c, on := o.Counters()[0], len(d.values("t")); c.Spooled != uint64(on) || c.Dropped[record.ReasonSpoolFull] != uint64(20-on) {
			t.Errorf("%+v, and %d are on disk", c, on)
		}
	})
}

// panicking is a client with a defect.
type panicking struct{ Transport }

func (panicking) Send([]*record.Record, time.Time) { panic("a defect") }

// A defect of the keeper, or of the feeder, leaves the spool free for the next start.
func TestADefectFreesTheSpool(t *testing.T) {
	for _, where := range []string{"keeper", "feeder"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := usual
				s.Durability = record.Disk
				h := &trouble{}
				var c Transport = newClient("client", s, fixed(answer{err: errRetry}))
				if where == "feeder" {
					c = panicking{c}
				}
				d := &faulty{disk: newDisk(func(what string) { t.Error(what) }), appends: func() error {
					if where == "keeper" {
						panic("a defect")
					}
					return nil
				}}
				o := New(s, c, h, h)
				o.Attach(func() (Spool, error) { return d, nil })
				synctest.Wait()
				o.Accept([]record.Record{numbered("t", 0, record.Unsaid)})
				after(time.Second)
				o.Close()
				synctest.Wait()
				if d.closed != 1 {
					t.Errorf("the spool was closed %d times", d.closed)
				}
				select {
				case <-o.kept:
				default:
					t.Error("the keeper goes on")
				}
			})
		})
	}
}

// Limits changed during the opening of the spool apply after it.
func TestLimitsWhileOpening(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		h, c := &trouble{}, newClient("client", usual, fixed(answer{}))
		d := newDisk(func(what string) { t.Error(what) })
		o := New(usual, c, h, h)
		o.Attach(func() (Spool, error) { time.Sleep(time.Second); return d, nil })
		after(time.Second / 2)
		o.Adjust(func(*Settings) {}, spool.Limits{MaxBytes: 7})
		after(time.Second)
		if d.limits.MaxBytes != 7 {
			t.Errorf("limits %+v", d.limits)
		}
		o.Close()
	})
}
