package produce

import (
	"errors"
	"math"
	"regexp"
	"slices"
	"strconv"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/kafka/client"
	"reskafka/internal/record"
)

// refusedTopic returns the records of a topic refused as a whole. The records wait in the topic's queue,
// which retries with one record.
func (p *Producer) refusedTopic(t *topic, err error) []outcome {
	if !t.holds() {
		return nil
	}
	said := p.objection(t, err)
	return append(p.handBackAll(t, err), said)
}

// objection reports to the administrator why the records of a topic wait.
func (p *Producer) objection(t *topic, err error) outcome {
	return p.outcomeToSay(func() {
		t.objected.Store(true)
		p.hooks.Report(t.about(), err)
	})
}

// errorRecords returns the records of a batch named by the answer, by index, with the broker's message for
// each.
func errorRecords(said *kmsg.ProduceResponseTopicPartition, records int) map[int]*string {
	named := map[int]*string{}
	for _, one := range said.ErrorRecords {
		if i := int(one.RelativeOffset); i >= 0 && i < records {
			named[i] = one.ErrorMessage
		}
	}
	return named
}

// message returns the broker's own sentence: about the first named record, which has the details, or about
// the batch.
func message(said *kmsg.ProduceResponseTopicPartition) *string {
	for _, one := range said.ErrorRecords {
		if one.ErrorMessage != nil && *one.ErrorMessage != "" {
			return one.ErrorMessage
		}
	}
	return said.ErrorMessage
}

// refusedRecord handles the refusal of a partition's first batch because of a record: it refuses the records
// named by the answer, or splits the batch in halves down to a single record.
func (p *Producer) refusedRecord(part *partition, said *kmsg.ProduceResponseTopicPartition, err error) []outcome {
	b := part.queue[0]
	if named := errorRecords(said, len(b.records)); errors.Is(err, kerr.InvalidRecord) && len(named) > 0 {
		return p.pick(part, said, named)
	}
	if len(b.records) > 1 {
		p.split(part)
		return nil
	}
	return p.refuse(part, err)
}

// pick refuses some records of a partition's first batch, and has the rest sent.
func (p *Producer) pick(part *partition, said *kmsg.ProduceResponseTopicPartition, named map[int]*string) (ended []outcome) {
	whole, rest := part.queue[0], p.newBatch()
	rest.times = whole.times
	p.forgo(part, whole)
	part.resize(-len(whole.encoded))
	for i, r := range whole.records {
		a := arrival{r, whole.deadline}
		if own, bad := named[i]; !bad {
			part.put(rest, &a, math.MaxInt)
		} else {
			if own == nil {
				own = said.ErrorMessage
			}
			ended = append(ended, p.outcomeOfOne(a, client.AnswerOf(said.ErrorCode, own, client.ToProduce)))
		}
	}
	if len(rest.records) > 0 {
		rest.closed, rest.doubtful = true, whole.doubtful
		part.queue[0] = rest
	} else {
		part.queue = slices.Delete(part.queue, 0, 1)
	}
	p.offer(part)
	return ended
}

// refusedTime sends a partition's first batch again with another time for the refused records: at once, and
// with a pause after a second refusal. A wrong clock costs no record.
func (p *Producer) refusedTime(part *partition, said *kmsg.ProduceResponseTopicPartition, err error) []outcome {
	b := part.queue[0]
	named := errorRecords(said, len(b.records))
	for i, r := range b.records {
		own, bad := named[i]
		if !bad && len(named) > 0 {
			continue
		}
		if own == nil {
			own = said.ErrorMessage
		}
		if b.times == nil {
			b.times = map[*record.Record]int64{}
		}
		b.times[r] = timeWithin(p.now().UnixMilli(), own)
	}
	b.refusal = err
	if part.refused++; part.refused > 1 {
		part.resume = p.now().Add(p.retryPause(part.refused))
	}
	p.status.AddRetried(len(b.records))
	ended := []outcome{p.objection(part.topic, err)}
	p.cut(part, math.MaxInt, math.MaxInt) // writes the times
	return append(ended, p.onceMore(part)...)
}

// timeLimits are the limits in the sentence of Apache Kafka about a record's time, ms since 1970.
var timeLimits = regexp.MustCompile(`within \[(-?[0-9]+), (-?[0-9]+)\]`)

// timeMargin is how far from the lower limit a time stays, which moves on with the broker's clock, ms.
const timeMargin = 60_000

// timeWithin returns the replacement for a refused time: the present, or the nearest time accepted by the
// broker.
func timeWithin(now int64, said *string) int64 {
	if said == nil {
		return now
	}
	limits := timeLimits.FindStringSubmatch(*said)
	if limits == nil {
		return now
	}
	low, errLow := strconv.ParseInt(limits[1], 10, 64)
	high, errHigh := strconv.ParseInt(limits[2], 10, 64)
	if errLow != nil || errHigh != nil || high <= 0 {
		return now
	}
	if low = max(low, 0); high-low > 2*timeMargin {
		low += timeMargin
	}
	return max(min(now, high), min(low, high))
}
