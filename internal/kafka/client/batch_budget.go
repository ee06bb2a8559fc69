package client

import "reskafka/internal/config"

// Limits of what a fetched batch may decompress to. A batch of 1 MB that a producer compressed to a thirtieth fits; a bomb, which
// reaches a thousandth, does not. Records count with the memory that the client makes of them.
const (
	minBatchBudget    = 48 << 20
	batchBudgetFactor = 8 // times message_max_bytes
)

// RecordCost is what the client library allocates for each record, beyond the decompressed bytes that it refers to.
const RecordCost = 200

// BatchBudget is the memory that one batch may need.
func BatchBudget(c *config.Connection) int {
	return max(minBatchBudget, batchBudgetFactor*c.MessageMaxBytes)
}
