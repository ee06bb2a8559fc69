package faults

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
	ledgerPage    = 4096
	ledgerBuckets = 40

	offBegun, offAccepted, offRefused, offWorst, offSlow, offSlowOwn, offWorstOwn, offTook = 0, 8, 16, 24, 32, 40, 48, 56
)

// fate is the result of the call for one message.
type fate byte

const (
	unreturned fate = iota // nothing: the process was killed meanwhile
	accepted
	refused
)

// threads is the number of threads per connection, from the issue of this table.
const threads = 8

// ledger is a file with the result of each call of a connection's load, and outlives Asterisk.
type ledger struct {
	path     string
	capacity int // messages of each thread
	data     []byte
}

// newLedger creates a ledger with holes: unused parts take no space on the disk.
func newLedger(path string) (*ledger, error) {
	l := &ledger{path: path, capacity: 1 << 22}
	size := ledgerPage + threads*(ledgerPage+l.capacity)
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
	*(*uint64)(unsafe.Pointer(&l.data[0])) = threads
	*(*uint64)(unsafe.Pointer(&l.data[8])) = uint64(l.capacity)
	return l, nil
}

func (l *ledger) close() { _ = syscall.Munmap(l.data) }

func (l *ledger) at(thread int) int { return ledgerPage + thread*(ledgerPage+l.capacity) }

func (l *ledger) number(thread, offset int) uint64 {
	return atomic.LoadUint64((*uint64)(unsafe.Pointer(&l.data[l.at(thread)+offset])))
}

func (l *ledger) sum(offset int) (n uint64) {
	for thread := range threads {
		n += l.number(thread, offset)
	}
	return n
}

// begun is how many messages of a thread there are.
func (l *ledger) begun(thread int) int { return int(l.number(thread, offBegun)) }

// fate returns the result of the call for a message.
func (l *ledger) fate(thread, number int) fate {
	return fate(l.data[l.at(thread)+ledgerPage+number])
}

func (l *ledger) accepted() int { return int(l.sum(offAccepted)) }

// worst returns the duration of the longest call, by offWorst, or offWorstOwn without waits: see steady.h.
func (l *ledger) worst(offset int) (longest time.Duration) {
	for thread := range threads {
		longest = max(longest, time.Duration(l.number(thread, offset)))
	}
	return longest
}

// percentile returns an upper limit for this share of the calls' durations, within a factor of two.
func (l *ledger) percentile(share float64) time.Duration {
	var buckets [ledgerBuckets]uint64
	total, passed := uint64(0), uint64(0)
	for i := range buckets {
		buckets[i] = l.sum(offTook + 8*i)
		total += buckets[i]
	}
	for i, n := range buckets {
		if passed += n; total > 0 && float64(passed) >= share*float64(total) {
			return time.Duration(uint64(2) << i)
		}
	}
	return 0
}

// distribution is a line about how long calls took.
func (l *ledger) distribution() string {
	var text strings.Builder
	for _, share := range []float64{0.5, 0.99, 0.999, 0.9999} {
		fmt.Fprintf(&text, "%g %% of the calls took less than %v, ", 100*share, l.percentile(share))
	}
	fmt.Fprintf(&text, "the longest %v; %d took more than 5 ms, %d of them by their own time, the longest own time was %v",
		l.worst(offWorst).Round(time.Microsecond), l.sum(offSlow), l.sum(offSlowOwn), l.worst(offWorstOwn).Round(time.Microsecond))
	return text.String()
}
