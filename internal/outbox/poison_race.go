//go:build race

package outbox

import "time"

// poisoning: with the race detector, whoever looks at a record that has gone back to be used again finds out.
const poisoning = true

var usedAgain = []byte("used again")

// poisonRecords makes records useless, in a way that the race detector sees too.
func poisonRecords(records []Record) {
	for i := range records {
		r := &records[i]
		*r = Record{Topic: "used again", Key: usedAgain, Accepted: time.Unix(1, 1), Charge: -1 << 40, Lifetime: -time.Hour, seq: 1 << 60}
		r.Report = func(*Record, error) { panic("a report of a record that has gone back") }
	}
}

// poisonBytes does it to the bytes of a block.
func poisonBytes(bytes []byte) {
	for i := range bytes {
		bytes[i] = 0xDB
	}
}
