package produce

// What a record weighs against message_max_bytes beside its key, value and headers, and each header beside its name and
// value. The first is what librdkafka adds (measured: with message_max_bytes = 1000000 the largest value without a key is
// 999964 bytes); the second is the most that the two lengths of a header take on the wire.
const (
	RecordOverhead = 36
	HeaderOverhead = 10
)
