package kafka

import "reskafka/internal/config"

// Limits of what a fetched batch may decompress to. A batch of 1 MB that a producer compressed to a thirtieth fits; a bomb, which
// reaches a thousandth, does not. Records count with the memory that the client makes of them.
const (
	minBatchBudget    = 48 << 20
	batchBudgetFactor = 8 // times message_max_bytes
)

// recordCost is what the client library allocates for each record, beyond the decompressed bytes that it refers to.
const recordCost = 200

// batchBudget is the memory that one batch may need.
func batchBudget(c *config.Connection) int {
	return max(minBatchBudget, batchBudgetFactor*c.MessageMaxBytes)
}
