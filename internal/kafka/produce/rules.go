package produce

import "reskafka/internal/config"

// Weights against message_max_bytes.
const (
	RecordOverhead = config.RecordOverhead
	HeaderOverhead = config.HeaderOverhead
)
