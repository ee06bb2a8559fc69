package produce

import (
	"io"
	"math"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"reskafka/test/kafkatest"
)

// TestCut_PieceOfPieceRefused_SendsEachWhole verifies a batch in doubt that is cut, and whose first piece is in doubt
// and cut too. A broker may have the batch or the piece, and refuses the piece of the piece in both cases. Each is
// sent again, the smaller first. Without this, the records got a new producer id, and arrived twice.
func TestCut_PieceOfPieceRefused_SendsEachWhole(t *testing.T) {
	for _, test := range []struct {
		name    string
		has     int   // the records of the batch at the broker
		lengths []int // of the batches sent after the second cut
	}{
		{"the broker has the piece", 4, []int{2, 4}},
		{"the broker has the batch", 8, []int{2, 4, 8}},
	} {
		t.Run(test.name, func(t *testing.T) {
			b := playing(t, true)
			part := b.topic(0).partitions[0]
			o := kafkatest.ExpectOutcomes(t, 8)
			b.send(o, kafkatest.Numbered("t", 0, 8)...)
			for _, records := range []int{4, 2} { // each time without an answer, then cut
				b.deliver(b.landed(b.leaves(0, true), nil, io.EOF))
				b.look(func() { b.cut(part, records, math.MaxInt) })
			}
			b.look(func() { b.offer(part) })
			for i, want := range test.lengths {
				f := b.leaves(0, true)
				batch := f.cargo[0].batch
				if len(batch.records) != want || batch.sequence != 0 || batch.identity.id != 7 {
					t.Fatalf("batch %d has %d records, number %d of %d, want %d records, number 0 of 7", i, len(batch.records),
						batch.sequence, batch.identity.id, want)
				}
				if want == test.has {
					b.answers(f, kerr.DuplicateSequenceNumber)
				} else {
					b.answers(f, kerr.OutOfOrderSequenceNumber)
				}
			}
			for sent := test.has; sent < 8; {
				f := b.leaves(0, true)
				batch := f.cargo[0].batch
				if int(batch.sequence) != sent || batch.identity.id != 7 {
					t.Errorf("number %d of %d, want %d of 7", batch.sequence, batch.identity.id, sent)
				}
				sent += len(batch.records)
				b.answers(f, nil)
			}
			o.AllSent()
		})
	}
}
