// Package ledger reads the results of the calls of kafka_probe's steady load, for tests. A ledger is a file that
// outlives Asterisk. Methods are safe for concurrent use, also during the load.
package ledger

import (
	"fmt"
	"os"
	"strings"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"
)

// The layout of a ledger matches test/modules/kafka_probe/steady.h.
const (
	page    = 4096
	buckets = 40

	offBegun, offAccepted, offRefused, offWorst, offSlow, offSlowOwn, offWorstOwn, offTook = 0, 8, 16, 24, 32, 40, 48, 56
)

// Fate is the result of the call for one message.
type Fate byte

// The results of a call.
const (
	Unreturned Fate = iota // nothing: the process was killed meanwhile
	Accepted
	Refused
)

// capacity is the limit of messages of each thread.
const capacity = 1 << 22

// Ledger has the results of the calls of one load.
type Ledger struct {
	Path    string
	Threads int // of the load
	data    []byte
}

// New creates a ledger with holes: unused parts take no space on the disk. The caller closes the ledger.
func New(path string, threads int) (*Ledger, error) {
	l := &Ledger{Path: path, Threads: threads}
	size := page + threads*(page+capacity)
	file, err := os.Create(path)
	if err != nil {
		return nil, fmt.Errorf("making a ledger: %w", err)
	}
	defer file.Close()
	if err := file.Truncate(int64(size)); err != nil {
		return nil, fmt.Errorf("making a ledger: %w", err)
	}
	if l.data, err = syscall.Mmap(int(file.Fd()), 0, size, syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED); err != nil {
		return nil, fmt.Errorf("mapping a ledger: %w", err)
	}
	*(*uint64)(unsafe.Pointer(&l.data[0])) = uint64(threads)
	*(*uint64)(unsafe.Pointer(&l.data[8])) = capacity
	return l, nil
}

// Close releases the memory of the ledger. The file stays.
func (l *Ledger) Close() { _ = syscall.Munmap(l.data) }

func (l *Ledger) at(thread int) int { return page + thread*(page+capacity) }

func (l *Ledger) number(thread, offset int) uint64 {
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&l.data[l.at(thread)+offset])))
}

func (l *Ledger) sum(offset int) (n uint64) {
	for thread := range l.Threads {
		n += l.number(thread, offset)
	}
	return n
}

// Begun returns the number of messages of a thread.
func (l *Ledger) Begun(thread int) int { return int(l.number(thread, offBegun)) }

// Calls returns the number of messages of all threads.
func (l *Ledger) Calls() int { return int(l.sum(offBegun)) }

// Fate returns the result of the call for a message.
func (l *Ledger) Fate(thread, number int) Fate {
	return Fate(l.data[l.at(thread)+page+number])
}

// Accepted returns the number of calls that returned 0.
func (l *Ledger) Accepted() int { return int(l.sum(offAccepted)) }

// Refused returns the number of calls that returned -1.
func (l *Ledger) Refused() int { return int(l.sum(offRefused)) }

// Slow returns the number of calls above 5 ms.
func (l *Ledger) Slow() int { return int(l.sum(offSlow)) }

// SlowOwn returns the number of calls above 5 ms of their own time, without waits: see steady.h.
func (l *Ledger) SlowOwn() int { return int(l.sum(offSlowOwn)) }

// Worst returns the duration of the longest call.
func (l *Ledger) Worst() time.Duration { return l.worst(offWorst) }

// WorstOwn returns the longest own time of a call.
func (l *Ledger) WorstOwn() time.Duration { return l.worst(offWorstOwn) }

func (l *Ledger) worst(offset int) (longest time.Duration) {
	for thread := range l.Threads {
		longest = max(longest, time.Duration(l.number(thread, offset)))
	}
	return longest
}

// Percentile returns an upper limit for this share of the calls' durations, within a factor of two.
func (l *Ledger) Percentile(share float64) time.Duration {
	var counts [buckets]uint64
	total, passed := uint64(0), uint64(0)
	for i := range counts {
		counts[i] = l.sum(offTook + 8*i)
		total += counts[i]
	}
	for i, n := range counts {
		if passed += n; total > 0 && float64(passed) >= share*float64(total) {
			return time.Duration(uint64(2) << i)
		}
	}
	return 0
}

// Distribution returns a line about how long calls took.
func (l *Ledger) Distribution() string {
	var text strings.Builder
	for _, share := range []float64{0.5, 0.99, 0.999, 0.9999} {
		fmt.Fprintf(&text, "%g %% of the calls took less than %v, ", 100*share, l.Percentile(share))
	}
	fmt.Fprintf(&text, "the longest %v; %d took more than 5 ms, %d of them by their own time, the longest own time was %v",
		l.Worst().Round(time.Microsecond), l.Slow(), l.SlowOwn(), l.WorstOwn().Round(time.Microsecond))
	return text.String()
}
