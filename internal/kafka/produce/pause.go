package produce

import "time"

// throttled stops requests to a broker during the pause it asked for: records inside a connection could
// neither expire nor move. Caller must hold mtx.
func (p *Producer) throttled(n *node) {
	if n.link == nil {
		return
	}
	conn, left := n.link.Conn(), time.Duration(0)
	if conn != nil {
		left = conn.ThrottledFor()
	}
	switch {
	case left > 0:
		n.resume, n.paused = p.now().Add(left), conn
		p.alarm(n.resume)
	case n.paused != nil:
		n.resume, n.paused = time.Time{}, nil
	}
}

// resumed reports whether a broker's pause has ended with its connection. Caller must hold mtx.
func (p *Producer) resumed(n *node) bool {
	if n.link.Conn() != n.paused {
		return true
	}
	p.alarm(n.resume) // an earlier alarm may have replaced this one
	return false
}
