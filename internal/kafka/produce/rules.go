package produce

// Weights against message_max_bytes: of a record beside key, value and headers, and of a header beside name
// and value. The first is librdkafka's constant (measured: with message_max_bytes = 1000000 the largest value
// without a key has 999964 bytes). The second is the largest size of a header's two lengths on the wire.
const (
	RecordOverhead = 36
	HeaderOverhead = 10
)
