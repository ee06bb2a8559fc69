package client

import "github.com/twmb/franz-go/pkg/kerr"

// After each move of a partition, the client library asks a leader for the end of the last consumed record's
// epoch, and resets the offset to an end below it: the later records were lost. Two kinds of answers carry no
// information, and make the library skip or repeat records, or wait forever:
//
//   - an undefined offset: the leader has no record of the epoch (Azure Event Hubs has none; neither has
//     Kafka after the election of a leader without history). The library resets by time.
//   - a lasting refusal because of the epoch (UNKNOWN_LEADER_EPOCH, FENCED_LEADER_EPOCH). The library asks
//     again every second.
//
// Both are rewritten to "the epoch has not ended", so consumption continues at its position. For a deleted
// offset, the next fetch is refused and auto_offset_reset decides. Removing the request from the library's
// versions does not help: the library sends the request anyway and consumes nothing. Epochs cannot be removed
// from the records.

// maxEpochRefusals is the number of refusals in a row that are passed on: a broker without news of its
// election catches up sooner.
const maxEpochRefusals = 4

// epochCheck follows the answers of a connection about the ends of epochs.
type epochCheck struct {
	refused   bool // this answer has a refusal
	refusals  int  // answers in a row with a refusal
	undefined bool // the present offset is undefined
}

// begin begins with an answer.
func (e *epochCheck) begin() {
	if !e.refused {
		e.refusals = 0
	}
	e.refused = false
}

// readEpochError reads the error code of a partition, and clears a lasting refusal.
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

// readEpochEnd reads the end offset of an epoch, and replaces an undefined offset by the largest.
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
