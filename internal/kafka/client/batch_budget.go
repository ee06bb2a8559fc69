package client

import (
	"math"

	"reskafka/internal/config"
)

// Limits of a fetched batch after decompression. A batch of 1 MB, compressed by its producer to a thirtieth,
// fits. A bomb, compressed to a thousandth, does not. Records count with the client's memory for them.
const (
	minBatchBudget    = 48 << 20
	batchBudgetFactor = 8               // times message_max_bytes
	maxBatchBudget    = math.MaxInt / 2 // so sums with other lengths fit into an int of 32 bits
)

// RecordCost is the client library's allocation for each record, beyond the decompressed bytes.
const RecordCost = 200

// BatchBudget returns the memory limit of a batch.
func BatchBudget(c *config.Connection) int {
	return int(max(minBatchBudget, min(batchBudgetFactor*int64(c.MessageMaxBytes), maxBatchBudget)))
}
