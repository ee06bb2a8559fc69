package engine

import "reskafka/internal/ingest"

// Gate is the memory that a connection's stage shares with the engine.
type Gate = ingest.Gate

// notStaged is the charge of a record that did not go through this run's stage, so that its outcome gives nothing back.
const notStaged = -1
