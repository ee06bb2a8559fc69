package wire

import (
	"encoding/binary"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/twmb/franz-go/pkg/kmsg"
)

// Fault is a misbehaviour of a broker, or of the network in front of a broker, on a connection. A nil
// function does nothing. The connection's goroutines call the functions, in parallel for the two directions.
type Fault struct {
	Opened  func(c *Conn)
	Size    func(c *Conn, size int)      // the length of a request arrived; may come more than once for a request
	Request func(c *Conn, header Header) // a whole request arrived
	// Answer returns the replacement of an answer for the client, with the length in front; empty = nothing.
	Answer func(c *Conn, to Header, answer []byte) []byte
}

// Disturb adds faults to connections opened from now on.
func (w *Wire) Disturb(faults ...Fault) {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	w.faults = append(append([]Fault{}, w.faults...), faults...)
}

// While limits a fault to the requests and answers for which on reports true.
func While(on func(Header) bool, f Fault) Fault {
	limited := f
	if f.Request != nil {
		limited.Request = func(c *Conn, h Header) {
			if on(h) {
				f.Request(c, h)
			}
		}
	}
	if f.Answer != nil {
		limited.Answer = func(c *Conn, to Header, answer []byte) []byte {
			if !on(to) {
				return answer
			}
			return f.Answer(c, to, answer)
		}
	}
	return limited
}

// Of limits a fault to a client id, so an independent client on the same broker stays undisturbed.
func Of(client string, f Fault) Fault {
	return While(func(h Header) bool { return h.Client == client }, f)
}

// Key limits a fault to a kind of request.
func Key(key kmsg.Key, f Fault) Fault {
	return While(func(h Header) bool { return h.Key == key }, f)
}

// Times limits a fault's answers to the first n.
func Times(n int64, f Fault) Fault {
	var count atomic.Int64
	return While(func(Header) bool { return count.Add(1) <= n }, Fault{Answer: f.Answer})
}

// SizeLimit ends a connection at a request of more than limit bytes, like services with a limit. The length
// excludes its own four bytes, as in Kafka's socket.request.max.bytes.
func SizeLimit(limit int, how Ending) Fault {
	return Fault{Size: func(c *Conn, size int) {
		if size > limit {
			c.End(how)
		}
	}}
}

// IdleLimit ends a connection on which nothing passed for a time, as brokers, balancers and NAT do.
func IdleLimit(limit time.Duration, how Ending) Fault {
	var timers sync.Map // *Conn to *time.Timer
	touch := func(c *Conn) {
		if timer, ok := timers.Load(c); ok {
			timer.(*time.Timer).Reset(limit)
		}
	}
	return Fault{
		Opened:  func(c *Conn) { timers.Store(c, time.AfterFunc(limit, func() { c.End(how) })) },
		Size:    func(c *Conn, _ int) { touch(c) },
		Request: func(c *Conn, _ Header) { touch(c) },
		Answer: func(c *Conn, _ Header, answer []byte) []byte {
			touch(c)
			return answer
		},
	}
}

// Delay passes each answer after a time.
func Delay(d time.Duration) Fault {
	return Fault{Answer: func(c *Conn, _ Header, answer []byte) []byte {
		select {
		case <-time.After(d):
		case <-c.Ended():
		}
		return answer
	}}
}

// Rewrite changes an answer after its correlation number: body begins there. The length is adapted.
func Rewrite(key kmsg.Key, change func(to Header, body []byte) []byte) Fault {
	return Key(key, Fault{Answer: func(_ *Conn, to Header, answer []byte) []byte {
		answer = append(answer[:8:8], change(to, answer[8:])...)
		binary.BigEndian.PutUint32(answer, uint32(len(answer)-4))
		return answer
	}})
}

// Change changes the fields of an answer. R is the answer's type, for example *kmsg.MetadataResponse.
func Change[R kmsg.Response](change func(R)) Fault {
	var none R
	return Rewrite(kmsg.Key(none.Key()), func(to Header, body []byte) []byte {
		response := kmsg.ResponseForKey(int16(to.Key)).(R)
		response.SetVersion(to.Version)
		if tagged(response) {
			body = body[1:] // of the header; brokers send no tags there
		}
		if err := response.ReadFrom(append([]byte{}, body...)); err != nil {
			return body
		}
		change(response)
		return Encode(response)
	})
}

// Encode returns an answer behind its correlation number.
func Encode(response kmsg.Response) []byte {
	var body []byte
	if tagged(response) {
		body = append(body, 0)
	}
	return response.AppendTo(body)
}

// tagged reports whether the header of an answer has tags.
func tagged(response kmsg.Response) bool {
	return response.IsFlexible() && kmsg.Key(response.Key()) != kmsg.ApiVersions
}

// Unthrottled removes throttle times of more than a second from decodable answers, for tests without a minute
// to wait: put it behind Damage.
func Unthrottled() Fault {
	return Fault{Answer: func(_ *Conn, to Header, answer []byte) []byte {
		response := kmsg.ResponseForKey(int16(to.Key))
		if response == nil || len(answer) < 9 {
			return answer
		}
		response.SetVersion(to.Version)
		front := 8
		if tagged(response) {
			front++
		}
		throttle, ok := response.(kmsg.SetThrottleResponse)
		if !ok || response.ReadFrom(append([]byte{}, answer[front:]...)) != nil {
			return answer
		}
		if millis, _ := response.(kmsg.ThrottleResponse).Throttle(); millis <= 1000 {
			return answer
		}
		throttle.SetThrottle(0)
		answer = response.AppendTo(answer[:front:front])
		binary.BigEndian.PutUint32(answer, uint32(len(answer)-4))
		return answer
	}}
}

// Damage changes some answers at random, in the same way for the same seed and traffic: a flipped bit, bytes
// of an extreme value, missing or repeated bytes, a truncated answer, a wrong length, and missing answers. On
// average, one in `every` answers is damaged.
func Damage(seed uint64, every int) Fault {
	var mtx sync.Mutex
	random := rand.New(rand.NewPCG(seed, 0))
	return Fault{Answer: func(c *Conn, _ Header, answer []byte) []byte {
		mtx.Lock()
		defer mtx.Unlock()
		if random.IntN(every) != 0 {
			return answer
		}
		return damage(random, c, answer)
	}}
}

// extremes are dangerous values for decoders, in the wire format.
var extremes = [][]byte{
	{0x7f, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xff}, {0x80, 0, 0, 0}, {0, 0, 0, 0}, {0x7f, 0xff}, {0xff}, {0}, {0x80}, {1},
	{0xff, 0xff, 0xff, 0xff, 0x0f}, {0x7f, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff},
}

func damage(random *rand.Rand, c *Conn, answer []byte) []byte {
	body := len(answer) - 8
	if body <= 0 {
		return answer
	}
	at := 8 + random.IntN(body)
	switch random.IntN(12) {
	case 0: // a wrong number or length
		answer[random.IntN(8)] ^= 1 << random.IntN(8)
		return answer
	case 1:
		return nil
	case 2:
		c.End([]Ending{FIN, RST}[random.IntN(2)])
		return answer
	case 3: // truncated, with a matching length
		answer = answer[:at]
	case 4: // bytes left out
		answer = append(answer[:at], answer[at+random.IntN(min(len(answer)-at, 16)):]...)
	case 5: // bytes repeated
		n := random.IntN(min(len(answer)-at, 64))
		answer = append(answer[:at:at], append(append([]byte{}, answer[at:at+n]...), answer[at:]...)...)
	case 6, 7: // flipped bits
		for range 1 + random.IntN(3) {
			answer[8+random.IntN(body)] ^= 1 << random.IntN(8)
		}
	default: // an extreme value, usually near the front, the place of counts
		if random.IntN(2) == 0 {
			at = 8 + random.IntN(min(body, 64))
		}
		copy(answer[at:], extremes[random.IntN(len(extremes))])
	}
	binary.BigEndian.PutUint32(answer, uint32(len(answer)-4))
	return answer
}
