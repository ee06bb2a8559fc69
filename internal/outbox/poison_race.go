//go:build race

package outbox

import (
	"time"

	"reskafka/internal/record"
)

// poisoning: the race detector's build detects readers of reused records.
const poisoning = true

var usedAgain = []byte("used again")

// poisonRecords makes records invalid, visibly for the race detector.
func poisonRecords(records []entry) {
	for i := range records {
		r := &records[i]
		*r = entry{Record: record.Record{Topic: "used again", Key: usedAgain, Accepted: time.Unix(1, 1), Charge: -1 << 40, Lifetime: -time.Hour}, seq: 1 << 60}
		r.Report = func(*record.Record, error) { panic("a report of a record that has gone back") }
	}
}

// poisonBytes does the same to the bytes of a block.
func poisonBytes(bytes []byte) {
	for i := range bytes {
		bytes[i] = 0xDB
	}
}
