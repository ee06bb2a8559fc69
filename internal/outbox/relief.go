package outbox

import "time"

// sendPatience is how long a client may sit on a Send before another goroutine takes over what else the feeder does.
const sendPatience = 5 * time.Millisecond

// handing says how far the feeder is with giving a batch to the client.
type handing int

const (
	handingNothing handing = iota
	handingOn              // a goroutine is inside the transport's Send, or about to be
	handingAlone           // and it is not the feeder, or not any more
)

// relieve makes its goroutine the feeder in place of one whom the client has not let go: time passes for the waiting
// records, a swap and the end come when they are due, only nothing is sent until that Send has returned.
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

// relieved notes that Send has returned, and says whether another goroutine has become the feeder meanwhile.
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

// hurry has the feeder relieved soon, should it be stuck in Send, because there is something to attend to.
func (o *Outbox) hurry() {
	if o.handing == handingOn {
		o.relief.Reset(sendPatience)
	}
}

// awaitSend waits, once the client is closed, for a Send that it held to return.
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
