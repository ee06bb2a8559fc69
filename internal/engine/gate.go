package engine

import "reskafka/internal/ingest"

// Gate is the memory shared by a connection's stage and the engine.
type Gate = ingest.Gate

// notStaged is the charge of a record from outside this run's stage: its outcome frees no frame.
const notStaged = -1
