package produce

import (
	"math"
	"slices"
	"time"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
	"reskafka/internal/record"
)

// reusedMost is the limit of a batch's memory kept for other records, bytes: some of batch_size's default.
const reusedMost = 4 << 20

// outcome is the outcome of a batch, or of one record, taken out of the locked section for the receiver.
// Caller must hold mtx to make an outcome, and must pass the outcome to deliver.
type outcome struct {
	batch     *recordBatch
	partition *partition
	offset    int64 // of the first, if err is nil; -1 = not known
	record    *record.Record
	err       error
	reopens   *topic // of the last outcome of a hand-back: see topic.returning
	say       func() // logs something, also without an outcome
}

// deliver writes the dispatched requests and reports outcomes. Caller must not hold mtx.
func (p *Producer) deliver(ended []outcome) {
	p.flush()
	if len(ended) == 0 {
		return
	}
	for i := range ended {
		p.tell(&ended[i])
	}
	p.told(ended)
}

// tell reports one outcome. A panic inside does not affect other outcomes.
func (p *Producer) tell(out *outcome) {
	defer host.Guard(p.log, "the outcome of records")
	if out.say != nil {
		out.say()
	}
	switch {
	case out.batch == nil && out.record == nil:
	case out.batch == nil:
		p.receive([]*record.Record{out.record}, out.err)
	case out.err != nil: // a connection may still be reading the bytes
		p.receive(out.batch.records, out.err)
	default:
		p.acknowledge(out)
		p.reuse(out.batch)
	}
}

// reuse keeps a batch for other records, up to a limit of memory.
func (p *Producer) reuse(b *recordBatch) {
	if cap(b.encoded)+cap(b.small) <= reusedMost {
		b.reset()
		p.batches.Put(b)
	}
}

// told counts the finished reports.
func (p *Producer) told(ended []outcome) {
	p.mtx.Lock()
	defer p.mtx.Unlock()
	for i := range ended {
		if t := ended[i].reopens; t != nil {
			t.returning--
		}
	}
	if p.telling -= len(ended); p.telling == 0 && p.closed {
		p.tellAll()
	}
}

// acknowledge reports an acknowledged batch.
func (p *Producer) acknowledge(out *outcome) {
	p.status.SetAcknowledged(p.now())
	if t := out.partition.topic; t.objected.Load() && t.objected.Swap(false) {
		p.hooks.Recovered(t.about())
	}
	b, number := out.batch, out.partition.number
	for i, r := range b.records {
		r.Partition, r.Offset = number, -1
		if out.offset >= 0 {
			r.Offset = out.offset + int64(i)
		}
	}
	p.receive(b.records, nil)
}

// outcomeOf is the outcome of a batch removed from its queue.
func (p *Producer) outcomeOf(part *partition, b *recordBatch, err error) outcome {
	p.telling++
	p.inside -= len(b.records)
	return outcome{batch: b, partition: part, offset: -1, err: err}
}

// outcomeOfOne is an outcome of a record outside a batch.
func (p *Producer) outcomeOfOne(a arrival, err error) outcome {
	p.telling++
	p.inside--
	return outcome{record: a.record, err: err}
}

// outcomeToSay has something logged when the outcomes are told.
func (p *Producer) outcomeToSay(say func()) outcome {
	p.telling++
	return outcome{say: say}
}

// place puts a record into the partition's queue, and reports whether the record may enter now. The caller sets
// the alarm for the deadline.
func (p *Producer) place(t *topic, a *arrival) bool {
	if t.returning > 0 {
		return false
	}
	if len(t.partitions) == 0 || len(t.arrivals) > 0 {
		t.arrivals = append(t.arrivals, *a)
		return true
	}
	part := t.partitions[t.partitioner.partition(a.record.Key, len(t.partitions), t.usable)]
	var b *recordBatch
	if n := len(part.queue); n > 0 && !part.queue[n-1].closed && len(part.queue[n-1].records) < p.batchRecords {
		b = part.queue[n-1]
	}
	most := p.maxBatchBytes(part)
	if b == nil || !part.put(b, a, most) {
		b = p.newBatch()
		part.queue = append(part.queue, b)
		part.put(b, a, most)
		p.offer(part)
	}
	return true
}

// put adds a record to a batch of the queue, if there is room.
func (part *partition) put(b *recordBatch, a *arrival, most int) bool {
	before := len(b.encoded)
	if !b.add(a.record, most) {
		return false
	}
	b.keyed = b.keyed || len(a.record.Key) > 0
	if !a.deadline.IsZero() && (b.deadline.IsZero() || a.deadline.Before(b.deadline)) {
		b.deadline = a.deadline
	}
	part.resize(len(b.encoded) - before)
	return true
}

func (p *Producer) newBatch() *recordBatch {
	if b, ok := p.batches.Get().(*recordBatch); ok {
		return b
	}
	return new(recordBatch)
}

// take removes a batch that is not in flight from a partition's queue, and offers the next one.
func (p *Producer) take(part *partition, b *recordBatch) *recordBatch {
	i := slices.Index(part.queue, b)
	part.queue = slices.Delete(part.queue, i, i+1)
	part.resize(-len(b.encoded))
	part.refused, part.resume = 0, time.Time{}
	p.offer(part)
	return b
}

// acknowledged ends a batch of a partition, stored by the broker from this offset on; -1 = unknown.
func (p *Producer) acknowledged(part *partition, b *recordBatch, offset int64) outcome {
	part.open, part.openAs = true, b.identity
	if b.sequenced {
		p.trusted = b.identity
	}
	if b.sequenced && b.identity == part.identity {
		if end := following(b.sequence, len(b.records)); (end-part.acked)&math.MaxInt32 < 1<<30 {
			part.acked = end
		}
	}
	out := p.outcomeOf(part, p.take(part, b), nil)
	out.offset = offset
	return out
}

// refuse ends the first batch of a partition: a repetition could not succeed.
func (p *Producer) refuse(part *partition, err error) []outcome {
	b := part.queue[0]
	p.forgo(part, b)
	return []outcome{p.outcomeOf(part, p.take(part, b), client.AnswerTo(client.ToProduce, err))}
}

// split divides a batch refused as too large or because of one record: the broker's verdict is certain only
// for a record alone. Each half is sent separately, until the refused record is found.
func (p *Producer) split(part *partition) {
	p.cut(part, len(part.queue[0].records)/2, math.MaxInt)
}

// cut splits the first batch of a partition's queue: after records records, and in pieces of at most `most`
// bytes.
//
// The first piece keeps the sequence number of the whole. A broker with the whole batch refuses the piece as
// out of order, because the last numbers differ, and does not append the piece once more. A broker without
// the batch appends the piece. See rejoin.
func (p *Producer) cut(part *partition, records, most int) {
	whole := part.queue[0]
	var pieces []*recordBatch
	part.resize(-len(whole.encoded))
	for i, r := range whole.records {
		a := arrival{r, whole.deadline}
		if n := len(pieces); i == 0 || i == records || !part.put(pieces[n-1], &a, most) {
			pieces = append(pieces, p.newBatch())
			pieces[n].times = whole.times
			part.put(pieces[n], &a, most)
		}
	}
	for _, piece := range pieces {
		piece.closed, piece.doubtful, piece.refusal = true, whole.doubtful, whole.refusal
	}
	if whole.sequenced {
		first := pieces[0]
		first.identity, first.sequence, first.sequenced = whole.identity, whole.sequence, true
		if first.whole = whole.whole; whole.doubtful && len(pieces) > 1 && whole.rejoins < maxRejoins {
			first.whole = whole // itself possibly a piece: a broker may have either
		}
		if part.identity == whole.identity {
			part.continueAt(whole.sequence)
		}
	}
	part.queue = slices.Replace(part.queue, 0, 1, pieces...)
	if !whole.doubtful { // otherwise its bytes may still be in use
		p.reuse(whole)
	}
	p.offer(part)
}

// maxRejoins is the limit of a batch's rejoins. A broker with a lost producer state refuses pieces, too.
const maxRejoins = 3

// rejoin joins the pieces of a partition's first batch after a refusal of the first piece as out of order.
// The broker has the whole batch and recognizes it, so the limit behind the cut does not matter.
func (p *Producer) rejoin(part *partition) {
	whole := part.queue[0].whole
	pieces := 0
	for records := 0; records < len(whole.records); pieces++ {
		records += len(part.queue[pieces].records)
		part.resize(-len(part.queue[pieces].encoded))
	}
	whole.intact = true
	whole.rejoins++
	if part.identity == whole.identity {
		part.continueAt(whole.sequence)
	}
	part.queue = slices.Replace(part.queue, 0, pieces, whole)
	part.resize(len(whole.encoded))
	p.offer(part)
}

// handBack returns a partition's batches to the outbox for a further attempt, starting at `from`: the first
// with err, all others with behind, so no batch overtakes another.
func (p *Producer) handBack(part *partition, from int, err, behind error) (ended []outcome) {
	if from >= len(part.queue) {
		return nil
	}
	p.forgo(part, part.queue[from:]...)
	part.unlist()
	if from == 0 {
		part.failed, part.open, part.refused, part.resume = false, false, 0, time.Time{}
	}
	for _, b := range part.queue[from:] {
		part.disembark(b)
		part.resize(-len(b.encoded))
		ended = append(ended, p.outcomeOf(part, b, err))
		err = behind
	}
	clear(part.queue[from:])
	part.queue = part.queue[:from]
	p.offer(part)
	return p.returning(part.topic, ended)
}

// handBackArrivals is handBack for records without a partition.
func (p *Producer) handBackArrivals(t *topic, errOf func(a arrival) error) (ended []outcome) {
	for _, a := range t.arrivals {
		ended = append(ended, p.outcomeOfOne(a, errOf(a)))
	}
	t.arrivals = nil
	return p.returning(t, ended)
}

// returning closes a topic to new records until the outcomes are told.
func (p *Producer) returning(t *topic, ended []outcome) []outcome {
	if len(ended) > 0 {
		t.returning++
		ended[len(ended)-1].reopens = t
	}
	return ended
}

// handBackAll hands back a topic's records, except records in a request or possibly at a broker. The outbox
// sends no more of the topic before their outcome; a batch without a leader therefore repeats the request for
// the topic's metadata.
func (p *Producer) handBackAll(t *topic, err error) (ended []outcome) {
	for _, part := range t.partitions {
		ended = append(ended, p.handBack(part, max(p.kept(part), part.lastFlying()), err, err)...)
		p.offer(part)
	}
	return append(ended, p.handBackArrivals(t, func(arrival) error { return err })...)
}
