package limits

import (
	"context"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/test/ledger"
)

// newLedger makes a ledger for the load of a site.
func (s *site) newLedger() *ledger.Ledger {
	s.Helper()
	l, err := ledger.New(filepath.Join(s.dir, "ledger"), 4)
	s.must(err)
	s.Cleanup(l.Close)
	return l
}

// arrived reads the topic until all accepted messages have arrived, and returns the number of records.
func (s *site) arrived(topic string, l *ledger.Ledger) (records int) {
	s.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Address), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	s.must(err)
	defer client.Close()
	seen := map[[2]int]bool{}
	for missing := l.Accepted(); missing > 0; {
		ctx, cancel := context.WithTimeout(s.ctx, patience)
		fetches := client.PollFetches(ctx)
		late := ctx.Err()
		cancel()
		if late != nil {
			s.Fatalf("%d accepted records did not arrive, %d did\n%s", missing, len(seen), s.cli("kafka show connection producing"))
		}
		fetches.EachRecord(func(r *kgo.Record) {
			records++
			fields := strings.Fields(string(r.Value[:min(len(r.Value), 48)]))
			thread, _ := strconv.Atoi(fields[0])
			number, _ := strconv.Atoi(fields[1])
			if key := [2]int{thread, number}; !seen[key] && l.Fate(thread, number) == ledger.Accepted {
				seen[key] = true
				missing--
			}
		})
	}
	return records
}
