package faults

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/twmb/franz-go/pkg/kadm"
	"github.com/twmb/franz-go/pkg/kgo"

	"reskafka/test/ledger"
)

// delivery is the content of a topic, compared with the producers' ledger.
type delivery struct {
	delivered  int // different messages
	duplicated int // repeated records of a message
	lost       int // missing accepted messages
	disordered int // messages behind a later message of the same key
	ghosts     int // refused messages in the topic
	strange    int // all other records, and keys in two partitions

	counts [threads][]uint8 // records of each message
	missed []message        // the lost messages
}

// message is a produced message.
type message struct{ thread, number int }

// reader counts the records of one topic in order for each partition.
type reader struct {
	delivery
	ledger *ledger.Ledger
	keys   int
	last   map[string]int   // by key: the highest number so far
	home   map[string]int32 // partition by key
}

// readTopic reads all partitions of a topic from the beginning to the present end, with a client independent
// of Asterisk. No producer may run.
func readTopic(ctx context.Context, client *kgo.Client, topic string, l *ledger.Ledger, keys int) (delivery, error) {
	r := &reader{ledger: l, keys: keys, last: map[string]int{}, home: map[string]int32{}}
	for thread := range threads {
		r.counts[thread] = make([]uint8, l.Begun(thread))
	}
	admin := kadm.NewClient(client)
	starts, err := admin.ListStartOffsets(ctx, topic)
	if err == nil {
		err = starts.Error()
	}
	ends, endErr := admin.ListEndOffsets(ctx, topic)
	if endErr == nil {
		endErr = ends.Error()
	}
	if err != nil || endErr != nil {
		return r.delivery, fmt.Errorf("reading %s: %w, %w", topic, err, endErr)
	}
	from, left := map[int32]kgo.Offset{}, map[int32]int64{}
	for partition, end := range ends.Offsets()[topic] {
		start := starts.Offsets()[topic][partition].At
		if start != 0 {
			return r.delivery, fmt.Errorf("reading %s: partition %d begins at %d", topic, partition, start)
		}
		if end.At > 0 {
			from[partition], left[partition] = kgo.NewOffset().At(0), end.At
		}
	}
	client.AddConsumePartitions(map[string]map[int32]kgo.Offset{topic: from})
	for len(left) > 0 {
		fetches := client.PollFetches(ctx)
		if ctx.Err() != nil {
			return r.delivery, fmt.Errorf("reading %s: %w with %v left", topic, ctx.Err(), left)
		}
		fetches.EachRecord(func(record *kgo.Record) {
			end, open := left[record.Partition]
			if !open {
				return
			}
			r.take(record)
			if record.Offset+1 >= end {
				delete(left, record.Partition)
			}
		})
	}
	r.compare()
	return r.delivery, nil
}

// take counts one record.
func (r *reader) take(record *kgo.Record) {
	fields := strings.SplitN(string(record.Value), " ", 3)
	if len(fields) != 3 {
		r.strange++
		return
	}
	thread, err := strconv.Atoi(fields[0])
	number, err2 := strconv.Atoi(fields[1])
	key := string(record.Key)
	if err != nil || err2 != nil || thread < 0 || thread >= threads || number < 0 || number >= len(r.counts[thread]) ||
		key != fmt.Sprintf("%d.%d", thread, number%r.keys) {
		r.strange++
		return
	}
	if home, known := r.home[key]; known && home != record.Partition {
		r.strange++
	}
	r.home[key] = record.Partition
	if r.counts[thread][number] > 0 {
		r.duplicated++
	} else {
		r.delivered++
		if last, known := r.last[key]; known && number < last {
			r.disordered++
		} else {
			r.last[key] = number
		}
	}
	if r.counts[thread][number] < 255 {
		r.counts[thread][number]++
	}
}

// compare asks the ledger about each message.
func (r *reader) compare() {
	for thread, counts := range r.counts {
		for number, count := range counts {
			switch what := r.ledger.Fate(thread, number); {
			case what == ledger.Accepted && count == 0:
				r.lost++
				r.missed = append(r.missed, message{thread, number})
			case what == ledger.Refused && count > 0:
				r.ghosts++
			}
		}
	}
}
