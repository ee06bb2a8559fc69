package produce

import (
	"reskafka/internal/kafka/client"
)

import "time"

// throttled has the producer send nothing to a broker that asked for a pause: records that wait inside a connection could neither
// expire nor move. The caller holds mtx.
func (p *Producer) throttled(n *node) {
	conn, left := p.pauses.On(n.id), time.Duration(0)
	if conn != nil {
		left = conn.ThrottledFor()
	}
	switch {
	case left > 0:
		n.resume, n.paused = p.now().Add(left), conn
		p.lookAgain(n)
	case n.paused != nil:
		n.resume, n.paused = time.Time{}, nil
	}
}

// lookAgain has the producer look again soon whether a broker's pause is over. The caller holds mtx.
func (p *Producer) lookAgain(n *node) {
	n.look = p.now().Add(client.LookAfter)
	if n.resume.Before(n.look) {
		n.look = n.resume
	}
	p.alarm(n.look)
}

// resumed reports whether a broker's pause has ended with its connection. The caller holds mtx.
func (p *Producer) resumed(n *node) bool {
	if p.pauses.On(n.id) != n.paused {
		return true
	}
	if p.now().Before(n.look) {
		p.alarm(n.look) // an earlier alarm may have taken its place
		return false
	}
	if n.paused.Ended() {
		return true
	}
	p.lookAgain(n)
	return false
}
