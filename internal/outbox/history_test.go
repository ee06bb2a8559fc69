package outbox

import (
	"encoding/binary"
	"flag"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"reskafka/internal/record"
)

var (
	histories = flag.Int("histories", 400, "random histories to run")
	seed      = flag.Uint64("seed", 1, "seed of the first history")
)

// dice decides. Safe for concurrent use.
type dice struct {
	mtx   sync.Mutex
	bytes []byte     // decisions to take first,
	rand  *rand.Rand // then these; nil = always 0
}

// roll returns a number below n.
func (d *dice) roll(n int) int {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	if len(d.bytes) > 0 {
		b := int(d.bytes[0])
		d.bytes = d.bytes[1:]
		return b % n
	}
	if d.rand == nil {
		return 0
	}
	return d.rand.IntN(n)
}

// one returns true once in n.
func (d *dice) one(n int) bool { return d.roll(n) == n-1 }

func pick[T any](d *dice, from ...T) T { return from[d.roll(len(from))] }

func (d *dice) left() bool {
	d.mtx.Lock()
	defer d.mtx.Unlock()
	return d.rand != nil || len(d.bytes) > 0
}

// TestHistories runs random lives of an outbox. A failure's name has the seed: -run 'TestHistories/seed=N$'
// with -seed=N -histories=1 repeats the decisions.
func TestHistories(t *testing.T) { runHistories(t, 0, live) }

// FuzzHistory lets the fuzzer choose the decisions.
func FuzzHistory(f *testing.F) { fuzzHistories(f, 1, 64, live) }

// runHistories runs lives with decisions from the stream, each in a synctest bubble.
func runHistories(t *testing.T, stream uint64, live func(*testing.T, *dice)) {
	for s := *seed; s < *seed+uint64(*histories); s++ {
		t.Run(fmt.Sprintf("seed=%d", s), func(t *testing.T) {
			d := &dice{rand: rand.New(rand.NewPCG(s, stream))}
			synctest.Test(t, func(t *testing.T) { live(t, d) })
		})
	}
}

// fuzzHistories begins with decisions of this many words from the stream.
func fuzzHistories(f *testing.F, stream uint64, words int, live func(*testing.T, *dice)) {
	for s := range uint64(8) {
		r := rand.New(rand.NewPCG(s, stream))
		var data []byte
		for range words {
			data = binary.LittleEndian.AppendUint64(data, r.Uint64())
		}
		f.Add(data)
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d := &dice{bytes: data}
		synctest.Test(t, func(t *testing.T) { live(t, d) })
	})
}

// packing draws how records are packed, until undo is called.
func packing(d *dice) (undo func()) {
	room, most, first, chunk, flowing := blockMost, unpackMost, unpackFirst, chunkRecords, blocksFlowing
	blockMost, unpackMost, unpackFirst = pick(d, room, 30, 100, 1000), pick(d, most, 1, 3, 10), pick(d, first, 1, 100)
	chunkRecords, blocksFlowing = pick(d, chunk, 1, 2, 5), pick(d, 0, flowing, 1, 3)
	return func() {
		blockMost, unpackMost, unpackFirst, chunkRecords, blocksFlowing = room, most, first, chunk, flowing
	}
}

// life is a random history.
type life struct {
	*dice
	*ledger
	t     *testing.T
	moods []string // the client's treatment of records; changed occasionally
	names int
	wg    sync.WaitGroup
}

// live runs a history in a synctest bubble, which fails if a goroutine is left.
func live(t *testing.T, d *dice) {
	defer packing(d)()
	l := &life{dice: d, ledger: newLedger(t), t: t}
	l.open(l.newClient())
	stop := make(chan struct{})
	for range 20 + d.roll(60) {
		if !d.left() {
			break
		}
		l.step(stop)
		if d.roll(4) > 0 {
			synctest.Wait()
			l.check()
		}
	}
	if d.one(2) {
		l.recover()
	}
	if d.one(2) {
		for range 3 {
			l.step(stop)
		}
	} else {
		synctest.Wait()
		l.check()
	}
	l.end()
	close(stop)
	l.wg.Wait()
	for range d.roll(3) {
		l.produce()
	}
	l.checkEnded(len(l.entries))
	other := l.newClient()
	l.swap(other, 0)
	if other.closings() != 1 {
		t.Errorf("a client swapped in after Close was closed %d times", other.closings())
	}
	synctest.Wait()
	l.check()
	if !l.outbox.Drain(nil) {
		t.Error("Drain after Close has something left")
	}
}

// step executes a random operation on the outbox.
func (l *life) step(stop chan struct{}) {
	switch l.roll(12) {
	case 0, 1, 2, 3:
		l.produce()
	case 4:
		l.wg.Go(l.produce)
	case 5, 6, 7:
		time.Sleep(time.Duration(1+l.roll(50)) * time.Millisecond)
	case 8:
		time.Sleep(time.Duration(1+l.roll(30)) * 100 * time.Millisecond)
	case 9:
		l.mood()
	case 10:
		if l.one(3) {
			synctest.Wait() // the ledger must know the present client
			l.swap(l.newClient(), pick(l.dice, 0, 5*time.Millisecond, 200*time.Millisecond, 5*time.Second))
		}
	case 11:
		cancel := make(chan struct{})
		l.wg.Go(func() {
			if !l.outbox.Drain(cancel) {
				select {
				case <-cancel:
				default:
					l.t.Error("Drain gave up without being cancelled")
				}
			}
		})
		wait := time.Duration(1+l.roll(1000)) * time.Millisecond
		l.wg.Go(func() {
			select {
			case <-time.After(wait):
			case <-stop:
			}
			close(cancel)
		})
	}
}

// produce accepts a few records.
func (l *life) produce() { l.accepted()() }

// accepted makes the outbox accept the records, and returns a function to send them.
func (l *life) accepted() (send func()) {
	l.accept.Lock()
	defer l.accept.Unlock()
	records := make([]record.Record, 0, 8)
	n := pick(l.dice, 1, 1, 3, 20, 100)
	topic := l.roll(3)
	stay := l.one(3)
	for range n {
		if l.one(4) {
			topic = l.roll(3)
		}
		staged, lifetime := time.Duration(l.roll(5))*time.Millisecond, time.Duration(0)
		if l.one(16) {
			staged = pick(l.dice, -time.Hour, time.Hour, longestStaging+1, 30*time.Millisecond)
		}
		if l.one(16) {
			lifetime = time.Duration(1+l.roll(20)) * 200 * time.Millisecond
		}
		size := l.roll(20)
		if l.one(30) {
			size = 500
		}
		records = append(records, l.record(fmt.Sprintf("topic%d", topic), fmt.Sprint(l.roll(3)), size, staged, lifetime, l.one(8)))
	}
	return offer(l.outbox, records, stay)
}

// mood changes how clients treat each topic from now on.
func (l *life) mood() {
	moods := make([]string, 3)
	for i := range moods {
		moods[i] = pick(l.dice, "good", "good", "mixed", "down", "hung")
	}
	l.ledger.mtx.Lock()
	l.moods = moods
	l.ledger.mtx.Unlock()
}

// script is the clients' treatment of a record.
func (l *life) script(r *record.Record) answer {
	l.ledger.mtx.Lock()
	mood := "good"
	if l.moods != nil {
		mood = l.moods[r.Topic[len("topic")]-'0']
	}
	l.ledger.mtx.Unlock()
	a := answer{after: time.Duration(l.roll(4)*l.roll(20)) * time.Millisecond, inline: l.one(3)}
	switch mood {
	case "good":
	case "mixed":
		switch l.roll(8) {
		case 0:
			a.err = errRefused
		case 1:
			a.err = errRetry
		case 2:
			a.err, a.delivered = errRetry, true
		case 3:
			a.hang = l.one(4)
		}
	case "down":
		a.err = errRetry
	case "hung":
		a.hang = true
	}
	return a
}

func (l *life) newClient() *client {
	s := Settings{
		Timeout:       pick(l.dice, time.Second, 50*time.Millisecond, 300*time.Millisecond, 3*time.Second, 10*time.Second),
		WindowRecords: pick(l.dice, 10, 1, 2, 5, 100),
		WindowBytes:   pick(l.dice, 0, 40, 200),
		Backoff:       pick(l.dice, 10*time.Millisecond, 0, 100*time.Millisecond),
		BackoffMax:    pick(l.dice, 50*time.Millisecond, time.Second),
	}
	l.names++
	c := newClient(fmt.Sprintf("client %d", l.names), s, l.script)
	if l.one(2) {
		c.shuffle = func(n int, swap func(i, j int)) {
			for i := n - 1; i > 0; i-- {
				swap(i, l.roll(i+1))
			}
		}
	}
	c.split = l.one(2)
	block := func() time.Duration { // Send loses its processor
		if !l.one(3) {
			return 0
		}
		return pick(l.dice, time.Microsecond, time.Millisecond, 5*time.Millisecond)
	}
	switch l.roll(6) {
	case 4:
		c.linger = block
	case 5:
		c.sending = block
	}
	c.closing = time.Duration(l.roll(3)) * time.Millisecond
	return c
}

// recover makes every client well and waits until the outbox is empty.
func (l *life) recover() {
	l.ledger.mtx.Lock()
	l.moods = nil
	l.ledger.mtx.Unlock()
	synctest.Wait()
	fresh := newClient("good client", Settings{Timeout: time.Minute, WindowRecords: 10}, func(*record.Record) answer { return answer{} })
	l.swap(fresh, time.Second)
	cancel := make(chan struct{})
	timer := time.AfterFunc(time.Minute, func() { close(cancel) })
	defer timer.Stop()
	if !l.outbox.Drain(cancel) {
		l.t.Errorf("not empty a minute after the client got well: %+v", l.outbox.Counters())
	}
}
