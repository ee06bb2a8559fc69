package client

import "github.com/twmb/franz-go/pkg/kerr"

// The client library asks a leader where the epoch of the last consumed record ends, after each move of a partition, and
// resets the offset when the answer is below it: records were lost then. Two kinds of answers tell nothing and make it skip
// or repeat records, or wait for ever:
//
//   - an undefined offset: the leader has no record of that epoch (Azure Event Hubs keeps none; Kafka after the election of a leader
//     without history). The library resets by time.
//   - a refusal because of the epoch (UNKNOWN_LEADER_EPOCH, FENCED_LEADER_EPOCH) that does not pass. The library asks again every
//     second.
//
// Both become the answer that the epoch has not ended, so that consuming goes on where it was. If that offset is not in the log
// any more, the next fetch is refused and auto_offset_reset decides. Without the request among the versions that the library may use
// it sends it all the same and consumes nothing; epochs cannot be left out of the records that it takes them from.

// maxEpochRefusals is how many answers in a row with a refusal are passed on: a broker that has not heard of its election is not
// behind for longer.
const maxEpochRefusals = 4

// epochCheck follows the answers of a connection about the ends of epochs.
type epochCheck struct {
	refused   bool // this answer has a refusal
	refusals  int  // answers in a row that have one
	undefined bool // the offset that is being read
}

// begin begins with an answer.
func (e *epochCheck) begin() {
	if !e.refused {
		e.refusals = 0
	}
	e.refused = false
}

// readEpochError reads the error code of a partition, and takes back a refusal that does not pass.
func (c *responseCheck) readEpochError(l *level, p []byte) (used int, err error) {
	last := 1 - c.have // where the code's last byte would be in p
	code, n, ok, err := c.number(p, 2)
	if !ok {
		return n, err
	}
	l.field++
	if code := int16(code); code == kerr.FencedLeaderEpoch.Code || code == kerr.UnknownLeaderEpoch.Code {
		if !c.epochs.refused {
			c.epochs.refused = true
			c.epochs.refusals++
		}
		if c.epochs.refusals > maxEpochRefusals {
			p[last] = 0
		}
	}
	return n, nil
}

// readEpochEnd reads the offset where an epoch ends, and makes one that is undefined larger than any.
func (c *responseCheck) readEpochEnd(l *level, p []byte) (used int, err error) {
	if c.have == 0 {
		c.epochs.undefined = len(p) > 0 && p[0] >= 0x80
	}
	first := c.have
	_, n, ok, err := c.number(p, 8)
	if err != nil {
		return n, err
	}
	if c.epochs.undefined {
		for i := range n {
			p[i] = 0xff
			if first+i == 0 {
				p[i] = 0x3f
			}
		}
	}
	if ok {
		l.field++
	}
	return n, nil
}
