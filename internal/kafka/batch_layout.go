package kafka

import "hash/crc32"

// Where the fields of a record batch of version 2 stand, by the protocol's description.
const (
	batchLengthAt    = 8  // of what is behind it
	batchMagicAt     = 16 // the number of the format, in every format
	batchCRCAt       = 17 // the checksum, of what is behind it
	batchLastDeltaAt = 23 // the last offset less the first
	batchHeaderBytes = 61
)

// castagnoli is what the checksum of a record batch is made with.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)
