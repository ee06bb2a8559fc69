package client

import "hash/crc32"

// Where the fields of a record batch of version 2 stand, by the protocol's description.
const (
	BatchLengthAt    = 8  // of the bytes behind the field
	BatchMagicAt     = 16 // the number of the format, in every format
	BatchCRCAt       = 17 // the checksum of the bytes behind the field
	BatchLastDeltaAt = 23 // the last offset less the first
	BatchHeaderBytes = 61
)

// Castagnoli is the table for checksums of record batches.
var Castagnoli = crc32.MakeTable(crc32.Castagnoli)
