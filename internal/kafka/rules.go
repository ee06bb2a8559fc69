package kafka

// What a topic may be called: Kafka's own rule, org.apache.kafka.common.internals.Topic (LEGAL_CHARS, MAX_NAME_LENGTH).
const TopicLengthMax = 249

// TopicByte says whether a byte may stand in a topic's name.
func TopicByte(b byte) bool {
	return b >= 'a' && b <= 'z' || b >= 'A' && b <= 'Z' || b >= '0' && b <= '9' || b == '.' || b == '_' || b == '-'
}

// ValidTopic says whether a topic may have that name.
func ValidTopic(name string) bool {
	for i := range len(name) {
		if !TopicByte(name[i]) {
			return false
		}
	}
	return len(name) > 0 && len(name) <= TopicLengthMax && name != "." && name != ".."
}

// What a record weighs against message_max_bytes beside its key, value and headers, and each header beside its name and
// value. The first is what librdkafka adds (measured: with message_max_bytes = 1000000 the largest value without a key is
// 999964 bytes); the second is the most that the two lengths of a header take on the wire.
const (
	RecordOverhead = 36
	HeaderOverhead = 10
)
