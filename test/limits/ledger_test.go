package limits

import (
	"context"
	"encoding/binary"
	"os"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kgo"
)

// The layout of a ledger matches test/modules/kafka_probe/steady.h.
const (
	ledgerPage     = 4096
	ledgerThreads  = 4
	ledgerCapacity = 64 * ledgerPage // messages of each thread
	ledgerSize     = ledgerPage + ledgerThreads*(ledgerPage+ledgerCapacity)
	fateAccepted   = 1
)

// newLedger makes an empty ledger.
func (s *site) newLedger(path string) {
	s.Helper()
	head := binary.NativeEndian.AppendUint64(nil, ledgerThreads)
	head = binary.NativeEndian.AppendUint64(head, ledgerCapacity)
	s.must(os.WriteFile(path, head, 0o666))
	s.must(os.Truncate(path, ledgerSize))
}

// ledger has the return values of a load's calls.
type ledger struct {
	begun, accepted, refused int
	data                     []byte
}

// readLedger reads a ledger, complete or still in use by the load.
func (s *site) readLedger(path string) (l ledger) {
	s.Helper()
	data, err := os.ReadFile(path)
	s.must(err)
	l.data = data
	for thread := range ledgerThreads {
		page := data[ledgerPage+thread*(ledgerPage+ledgerCapacity):]
		l.begun += int(binary.NativeEndian.Uint64(page))
		l.accepted += int(binary.NativeEndian.Uint64(page[8:]))
		l.refused += int(binary.NativeEndian.Uint64(page[16:]))
	}
	return l
}

// wasAccepted reports whether the call for a message returned 0.
func (l ledger) wasAccepted(thread, number int) bool {
	return l.data[ledgerPage+thread*(ledgerPage+ledgerCapacity)+ledgerPage+number] == fateAccepted
}

// arrived reads the topic until all accepted messages have arrived, and returns the number of records.
func (s *site) arrived(topic string, l ledger) (records int) {
	s.Helper()
	client, err := kgo.NewClient(kgo.SeedBrokers(s.broker.Address), kgo.ConsumeTopics(topic),
		kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	s.must(err)
	defer client.Close()
	seen := map[[2]int]bool{}
	for missing := l.accepted; missing > 0; {
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
			if key := [2]int{thread, number}; !seen[key] && l.wasAccepted(thread, number) {
				seen[key] = true
				missing--
			}
		})
	}
	return records
}
