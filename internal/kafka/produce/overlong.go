package produce

import (
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"

	"reskafka/internal/kafka/client"
)

// Number of closes in a row by a broker before a record is refused as too large. The second number is for a
// record at least as long as an earlier refused record.
const (
	overlongCloses      = 10
	overlongClosesAgain = 2
)

// suspicion is a producer's evidence about a record on which a broker closed the connection. Some services
// always close on a request over their limit. An outage closes connections too, so a close counts only if
//
//   - the request had this record alone, and no other request was in flight to the broker,
//   - the broker answered a probe right before and right after,
//   - no other request to the broker failed since the first counted close, and
//   - the broker never answered a request of this length.
//
// A probe is a produce request without records, with the record's connection and login. Answers to other
// kinds of request do not count, because a broker may answer them without accepting records. The producer's
// mtx guards a suspicion.
type suspicion struct {
	node   *node
	bytes  int  // length of the request on the wire
	closes int  // counted closes
	failed int  // node.failed at the last close
	probed bool // the broker has answered a probe since
}

// suspected reports whether the partition's first batch is a record on which the broker closed the
// connection.
func (part *partition) suspected() bool {
	s := part.next().suspect
	return s != nil && s.node == part.listed
}

// single reports whether a flight has a single record.
func (f *flight) single() bool { return len(f.cargo) == 1 && len(f.cargo[0].batch.records) == 1 }

// test loads a flight for a suspected record: a probe, or the record after an answered probe.
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

// suspect notes a failed request.
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
	if b.flight != f { // dropped meanwhile
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

// passed notes an answered request. An answer to a probe refuses a record with enough counted closes.
func (p *Producer) passed(f *flight) []outcome {
	n, wrote := f.node, int(f.wrote.Load())
	n.longest = max(n.longest, wrote)
	if wrote >= n.overlong {
		n.overlong = 0
	}
	part, b := f.probe.partition, f.probe.batch
	if part == nil || part.listed != n || part.next() != b || !part.suspected() {
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
	return []outcome{p.outcomeOf(part, p.take(part, b), err)}
}
