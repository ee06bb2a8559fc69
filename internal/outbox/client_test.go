package outbox

import (
	"errors"
	"sync"
	"time"

	"reskafka/internal/record"
)

var (
	errRetry   = errors.New("broker went away")
	errRefused = errors.New("record too large")
	errClosed  = errors.New("client closed")
)

// reasonRefused is the fake client's name of errRefused.
const reasonRefused = "refused"

// answer is the fake client's treatment of a record.
type answer struct {
	after     time.Duration // how long the broker takes
	hang      bool          // until the deadline or Close, then errRetry
	err       error         // nil, errRetry or errRefused
	delivered bool          // with errRetry: the broker has the record anyway
	inline    bool          // answered from inside Send
}

// handed is a record as passed to Send.
type handed struct {
	record   *record.Record
	deadline time.Time
	client   *client
	answer   answer
}

// client is a fake transport with the promises of a real client: records of a topic and key reach the broker
// in order, so a failed record fails all later records of the same key.
type client struct {
	receiver
	name     string
	settings Settings
	script   func(r *record.Record) answer
	sending  func() time.Duration             // how long this Send blocks; nil = not at all
	linger   func() time.Duration             // time blocked afterwards, and slightly beyond Close; nil = none
	shuffle  func(n int, swap func(i, j int)) // order of the answers in a round; nil = as sent
	split    bool                             // two goroutines answer each round
	closing  time.Duration                    // how long Close takes
	watch    watcher

	mtx       sync.Mutex
	wg        sync.WaitGroup
	gone      chan struct{} // closed by Close
	closed    int
	inSend    int
	sends     [][]*record.Record
	deadlines []time.Time
	times     []time.Time
	parts     map[[2]string]*part
}

// part is a partition of the fake: a topic and key.
type part struct {
	queue  []handed
	broken time.Time // every record fails until this moment has passed: see client.fate
}

// watcher sees all calls between an outbox and its client.
type watcher interface {
	send(c *client, records []*record.Record)
	deliver(c *client, r *record.Record)
	answer(c *client, h handed, err error)
	misuse(c *client, what string)
	close(c *client)
}

// receiver reports outcomes to an outbox.
type receiver struct {
	answered func([]*record.Record, error)
}

func (r *receiver) AnswerTo(answered func([]*record.Record, error)) { r.answered = answered }

func (r *receiver) done(one *record.Record, err error) { r.answered([]*record.Record{one}, err) }

func newClient(name string, s Settings, script func(*record.Record) answer) *client {
	return &client{name: name, settings: s, script: script, watch: nobody{}, gone: make(chan struct{}),
		parts: map[[2]string]*part{}}
}

// Send implements Transport.
func (c *client) Send(records []*record.Record, deadline time.Time) {
	c.mtx.Lock()
	c.inSend++
	if c.inSend > 1 {
		c.watch.misuse(c, "Send while another Send is under way")
	}
	if c.closed > 0 {
		c.watch.misuse(c, "Send after Close")
	}
	kept := make([]*record.Record, len(records)) // copies that outlive the outcome
	for i, r := range records {
		kept[i] = stripped(r)
	}
	c.sends = append(c.sends, kept)
	c.deadlines = append(c.deadlines, deadline)
	c.times = append(c.times, time.Now())
	c.watch.send(c, records)
	c.wg.Add(1)
	c.mtx.Unlock()

	if c.sending != nil {
		if d := c.sending(); d > 0 {
			c.pause(d)
		}
	}
	for _, r := range records {
		if h := (handed{record: r, deadline: deadline, client: c}); r.Held() {
			c.watch.answer(c, h, errRetry)
		} else {
			c.take(h)
		}
	}
	c.wg.Done()
	if c.linger != nil {
		if d := c.linger(); d > 0 {
			c.pause(d)
			time.Sleep(time.Millisecond)
		}
	}
	c.mtx.Lock()
	c.inSend--
	c.mtx.Unlock()
}

// take puts a record into its partition and starts a worker if necessary.
func (c *client) take(h handed) {
	key := [2]string{h.record.Topic, string(h.record.Key)}
	c.mtx.Lock()
	p := c.parts[key]
	if p == nil {
		p = &part{}
		c.parts[key] = p
	}
	h.answer = c.script(h.record)
	if h.answer.hang {
		h.answer.err, h.answer.delivered = errRetry, false
	}
	if len(p.queue) == 0 {
		if (h.answer.inline && !h.answer.hang) || !time.Now().After(p.broken) {
			err := c.fate(p, h)
			c.mtx.Unlock()
			c.watch.answer(c, h, err)
			return
		}
		c.wg.Go(func() { c.work(p) })
	}
	p.queue = append(p.queue, h)
	c.mtx.Unlock()
}

// work answers a partition's records after the broker's time for the first.
func (c *client) work(p *part) {
	c.mtx.Lock()
	first := p.queue[0]
	c.mtx.Unlock()
	if first.answer.hang {
		c.pause(time.Until(first.deadline))
	} else {
		c.pause(first.answer.after)
	}
	c.mtx.Lock()
	hs := p.queue
	errs := make([]error, len(hs))
	for i, h := range hs {
		errs[i] = c.fate(p, h)
	}
	p.queue = nil
	c.mtx.Unlock()
	c.reply(hs, errs)
}

// fate decides a record's answer. A failed partition stays broken until the clock has advanced: a record must
// not pass before the retry of a failed record, even with a Send concurrent to the failure.
func (c *client) fate(p *part, h handed) error {
	a := h.answer
	switch {
	case c.closed > 0:
		a = answer{err: errClosed}
	case !time.Now().After(p.broken):
		a = answer{err: errRetry}
	}
	if a.err == nil || a.delivered {
		c.watch.deliver(c, h.record)
	}
	if a.err != nil && !errors.Is(a.err, errRefused) {
		p.broken = time.Now()
	}
	return a.err
}

func (c *client) reply(hs []handed, errs []error) {
	if c.shuffle != nil {
		c.mtx.Lock()
		c.shuffle(len(hs), func(i, j int) {
			hs[i], hs[j] = hs[j], hs[i]
			errs[i], errs[j] = errs[j], errs[i]
		})
		c.mtx.Unlock()
	}
	half := 0
	if c.split {
		half = len(hs) / 2
	}
	var wg sync.WaitGroup
	wg.Go(func() {
		for i := range half {
			c.watch.answer(c, hs[i], errs[i])
		}
	})
	for i := half; i < len(hs); i++ {
		c.watch.answer(c, hs[i], errs[i])
	}
	wg.Wait()
}

// pause waits, but not beyond Close. A zero wait starts no timer: with the race detector, Go 1.26 crashes
// when two goroutines of a bubble receive from timers due at once.
func (c *client) pause(d time.Duration) {
	if d <= 0 {
		return
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.gone:
	}
}

// Permanent implements Transport.
func (c *client) Permanent(err error) (string, bool) {
	return reasonRefused, errors.Is(err, errRefused)
}

// Close implements Transport.
func (c *client) Close() {
	c.mtx.Lock()
	c.closed++
	if c.closed > 1 {
		c.watch.misuse(c, "Close again")
		c.mtx.Unlock()
		return
	}
	close(c.gone)
	c.mtx.Unlock()
	if c.closing > 0 {
		time.Sleep(c.closing)
	}
	c.wg.Wait()
	c.watch.close(c)
}

// sent is how many Sends there were.
func (c *client) sent() int {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	return len(c.sends)
}

// closings is how often Close was called.
func (c *client) closings() int {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	return c.closed
}

// busy reports whether a Send is running.
func (c *client) busy() bool {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	return c.inSend > 0
}

// nobody is a watcher that only passes answers on.
type nobody struct{}

func (nobody) send(*client, []*record.Record)        {}
func (nobody) deliver(*client, *record.Record)       {}
func (nobody) answer(_ *client, h handed, err error) { h.client.done(h.record, err) }
func (nobody) misuse(c *client, what string)         { panic(c.name + ": " + what) }
func (nobody) close(*client)                         {}
