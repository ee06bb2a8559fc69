package produce

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"reskafka/internal/kafka/client"
)

// How often in a row a broker must have closed the connection on a record before the record is refused as too large. The second is
// for a record at least as long as one that was refused so.
const (
	overlongCloses      = 10
	overlongClosesAgain = 2
)

// suspicion is what a producer knows of a record on which a broker closed the connection. Some services do so for ever with a request
// over their limit. An outage closes connections too, so a close counts only if
//
//   - the request had this record alone, and no other request was under way to the broker,
//   - the broker answered a probe right before, and answers one after it,
//   - no other request to the broker failed since the first close that counts, and
//   - the broker never answered a request of this length.
//
// A probe is a request to produce without records: it takes the record's connection and login. Answers to other kinds of request do
// not count, because a broker may answer those while it takes no records. The producer's mtx guards a suspicion.
type suspicion struct {
	node   *node
	bytes  int  // length of the request on the wire
	closes int  // that count
	failed int  // node.failed at the last close
	probed bool // the broker has answered a probe since
}

// suspected reports whether the partition's first batch is a record on which its broker closed the connection.
func (part *partition) suspected() bool {
	s := part.queue[0].suspect
	return s != nil && s.node == part.listed
}

// single reports whether a flight has one record.
func (f *flight) single() bool { return len(f.cargo) == 1 && len(f.cargo[0].batch.records) == 1 }

// test loads a flight for a suspected record: a probe, or the record after the answer to one.
func (f *flight) test(part *partition) (probe bool) {
	b := part.queue[0]
	f.node.alone = true
	if !b.suspect.probed {
		f.probe = cargo{partition: part, batch: b}
		return true
	}
	b.suspect.probed = false
	return false
}

// suspect notes that a request failed.
func (p *Producer) suspect(f *flight, err error) {
	n, wrote := f.node, int(f.wrote.Load())
	switch {
	case client.EndedIdle(err):
		return
	case !f.single(), !client.ConnectionLost(err), f.state.Load() != departed, wrote < client.LargeRequest, wrote <= n.longest:
		n.failed++
		return
	}
	part, b := f.cargo[0].partition, f.cargo[0].batch
	if part.flight != f { // it was given up meanwhile
		return
	}
	if s := b.suspect; s != nil && s.node == n && s.failed == n.failed {
		s.closes++
	} else {
		b.suspect = &suspicion{node: n, failed: n.failed}
	}
	b.suspect.bytes = wrote
	part.resume = p.now().Add(p.retryPause(b.suspect.closes + 1))
}

// passed notes that a broker answered a request. An answer to a probe refuses a record if enough closes count.
func (p *Producer) passed(f *flight) []outcome {
	n, wrote := f.node, int(f.wrote.Load())
	n.longest = max(n.longest, wrote)
	if wrote >= n.overlong {
		n.overlong = 0
	}
	part, b := f.probe.partition, f.probe.batch
	if part == nil || part.listed != n || part.queue[0] != b || !part.suspected() {
		return nil
	}
	s, enough := b.suspect, overlongCloses
	s.probed = true
	if n.overlong > 0 && s.bytes >= n.overlong {
		enough = overlongClosesAgain
	}
	if s.failed != n.failed || s.bytes <= n.longest || s.closes < enough {
		return nil
	}
	n.overlong = s.bytes
	part.unlist()
	p.forgo(part, b)
	err := client.WithSentence(kerr.MessageTooLarge, client.RecordTooLong, strconv.Itoa(s.bytes), strconv.Itoa(n.longest))
	return []outcome{p.outcomeOf(part, p.take(part), err)}
}
