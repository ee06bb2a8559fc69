package produce

import (
	"encoding/binary"
	"hash/crc32"
	"slices"
	"time"

	"reskafka/internal/kafka/client"
	"reskafka/internal/record"
)

// recordBatch is a batch of records of one partition, in Kafka's record batch format of version 2, known to
// brokers since 0.11. The fields have their names from the protocol's description:
//
//	baseOffset int64, batchLength int32, partitionLeaderEpoch int32, magic int8, crc uint32, attributes int16,
//	lastOffsetDelta int32, baseTimestamp int64, maxTimestamp int64, producerId int64, producerEpoch int16,
//	baseSequence int32, the number of records int32, the records
//
// A record is its length, attributes int8, timestampDelta, offsetDelta, and its fields, see
// record.AppendFields. All numbers are varints.
type recordBatch struct {
	records []*record.Record
	encoded []byte // room for the header, then the records
	wire    []byte // bytes to send, once packed: encoded, or small
	small   []byte // the same compressed

	base, latest int64     // the least and the largest timestamp, ms since 1970. The least is the first's.
	deadline     time.Time // earliest deadline of the records; zero = none

	times  map[*record.Record]int64 // replaced times of records, after a refusal, ms since 1970; nil = none
	closed bool                     // takes no more records
	keyed  bool                     // a record has a key

	flight *flight // the request with the batch; nil = it is in no request
	result *result // the failure of the last request, not yet booked; nil = none

	// Once sequenced: the batch's identity at the broker.
	sequenced bool
	identity  identity
	sequence  int32

	whole   *recordBatch // the batch in doubt of which this is the first piece; nil = of none
	intact  bool         // must not be split: a broker seems to have the whole batch
	rejoins int          // number of times the batch was joined again

	doubtful bool  // possibly at a broker, from an earlier attempt
	refusal  error // the latest temporary refusal

	suspect *suspicion // nil = no broker closed the connection on the batch
}

// batchMagic is the number of the format.
const batchMagic = 2

// reset removes the records and keeps the memory.
func (b *recordBatch) reset() {
	clear(b.records)
	*b = recordBatch{records: b.records[:0], encoded: b.encoded[:0], small: b.small[:0]}
}

// add copies a record into the batch, if the batch then has most bytes at most, and reports whether the
// record fits. The first record always fits.
func (b *recordBatch) add(r *record.Record, most int) bool {
	at := r.Accepted.UnixMilli()
	if other, ok := b.times[r]; ok {
		at = other
	}
	if len(b.records) == 0 {
		b.encoded = slices.Grow(b.encoded[:0], client.BatchHeaderBytes)[:client.BatchHeaderBytes]
		b.base, b.latest = at, at
	}
	body := recordLen(r, at-b.base, len(b.records))
	size := record.VarintSize(int64(body)) + body
	if len(b.records) > 0 && len(b.encoded)+size > most {
		return false
	}
	b.encoded = appendRecord(b.encoded, r, body, at-b.base, len(b.records))
	b.latest = max(b.latest, at)
	b.records = append(b.records, r)
	return true
}

// recordLen returns the length of a record without the bytes of its length field.
func recordLen(r *record.Record, after int64, index int) int {
	return 1 + record.VarintSize(after) + record.VarintSize(int64(index)) + r.FieldsSize()
}

func appendRecord(to []byte, r *record.Record, body int, after int64, index int) []byte {
	to = binary.AppendVarint(to, int64(body))
	to = append(to, 0) // attributes: there are none
	to = binary.AppendVarint(to, after)
	to = binary.AppendVarint(to, int64(index))
	return r.AppendFields(to)
}

// pack sets b.wire, once, to the header and the compressed records. compress may be nil.
func (b *recordBatch) pack(compress *compression) {
	if b.wire != nil {
		return
	}
	b.wire = b.encoded
	attributes := uint16(0)
	if compress != nil {
		b.small = slices.Grow(b.small[:0], client.BatchHeaderBytes)[:client.BatchHeaderBytes]
		b.small = compress.append(b.small, b.encoded[client.BatchHeaderBytes:])
		if len(b.small) < len(b.encoded) {
			b.wire, attributes = b.small, uint16(compress.codec)
		}
	}
	header := b.wire[:0]
	header = binary.BigEndian.AppendUint64(header, 0) // the base offset is the broker's to say
	header = binary.BigEndian.AppendUint32(header, uint32(len(b.wire)-client.BatchLengthAt-4))
	header = binary.BigEndian.AppendUint32(header, 1<<32-1) // the leader's epoch, -1: also
	header = append(header, batchMagic, 0, 0, 0, 0)
	header = binary.BigEndian.AppendUint16(header, attributes)
	header = binary.BigEndian.AppendUint32(header, uint32(len(b.records)-1))
	header = binary.BigEndian.AppendUint64(header, uint64(b.base))
	header = binary.BigEndian.AppendUint64(header, uint64(b.latest))
	producer, epoch, sequence := int64(-1), int16(-1), int32(-1)
	if b.sequenced {
		producer, epoch, sequence = b.identity.id, b.identity.epoch, b.sequence
	}
	header = binary.BigEndian.AppendUint64(header, uint64(producer))
	header = binary.BigEndian.AppendUint16(header, uint16(epoch))
	header = binary.BigEndian.AppendUint32(header, uint32(sequence))
	binary.BigEndian.AppendUint32(header, uint32(len(b.records)))
	binary.BigEndian.PutUint32(b.wire[client.BatchCRCAt:], crc32.Checksum(b.wire[client.BatchCRCAt+4:], client.Castagnoli))
}
