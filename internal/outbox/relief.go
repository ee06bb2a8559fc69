package outbox

import "time"

// sendPatience is a Send's time before another goroutine takes over the feeder's other work.
const sendPatience = 5 * time.Millisecond

// handing says how far the feeder is with giving a batch to the client.
type handing int

const (
	handingNothing handing = iota
	handingOn              // a goroutine is inside the transport's Send, or about to be
	handingAlone           // not the feeder, or no longer
)

// relieve makes its goroutine the feeder in place of a feeder blocked in the client: deadlines of waiting
// records, a swap and the end happen in time, but nothing is sent until the return of that Send.
func (o *Outbox) relieve() {
	o.mtx.Lock()
	needed := o.handing == handingOn
	if needed {
		o.handing = handingAlone
	}
	o.mtx.Unlock()
	if needed {
		o.feed()
	}
}

// relieved notes the return of Send, and reports whether another goroutine has become the feeder meanwhile.
func (o *Outbox) relieved() bool {
	o.relief.Stop()
	o.mtx.Lock()
	alone := o.handing == handingAlone
	o.handing = handingNothing
	o.returned()
	o.mtx.Unlock()
	if alone {
		o.signal()
	}
	return alone
}

// hurry schedules the relief of a feeder blocked in Send, because there is work.
func (o *Outbox) hurry() {
	if o.handing == handingOn {
		o.relief.Reset(sendPatience)
	}
}

// awaitSend waits for the return of a blocked Send after the client's close.
func (o *Outbox) awaitSend() {
	for {
		o.mtx.Lock()
		handing := o.handing
		o.mtx.Unlock()
		if handing == handingNothing {
			return
		}
		<-o.wake
	}
}
