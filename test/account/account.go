// Package account reads the outcomes of records from the metrics of an engine, for tests.
package account

import "reskafka/internal/metrics"

// Account says where the accepted records of a topic or of a connection are.
type Account struct {
	Accepted, Restored, Acknowledged, Waiting, Sending, Spooled, Retried uint64

	Dead, Dropped map[string]uint64 // by reason
}

// Of returns the account of v's branch: a connection with all topics, or one topic.
func Of(v *metrics.Values) Account {
	return Account{
		Accepted:     v.Sum(metrics.RecordsAccepted),
		Restored:     v.Sum(metrics.RecordsRestored),
		Acknowledged: v.Sum(metrics.RecordsAcknowledged),
		Waiting:      v.Sum(metrics.RecordsWaiting),
		Sending:      v.Sum(metrics.RecordsSending),
		Spooled:      v.Sum(metrics.RecordsSpooled),
		Retried:      v.Sum(metrics.RecordsRetried),
		Dead:         v.By(metrics.Reason, metrics.DeadLetters),
		Dropped:      v.By(metrics.Reason, metrics.RecordsDropped),
	}
}

// GivenUp counts the records that were dropped or became dead letters.
func (a Account) GivenUp() (n uint64) {
	for _, counts := range []map[string]uint64{a.Dead, a.Dropped} {
		for _, count := range counts {
			n += count
		}
	}
	return n
}

// Balanced reports whether every accepted record is accounted for.
func (a Account) Balanced() bool {
	return a.Accepted == a.Acknowledged+a.Waiting+a.Sending+a.Spooled+a.GivenUp()
}
