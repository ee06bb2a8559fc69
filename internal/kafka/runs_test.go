package kafka

import (
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/outbox"
)

// TestRuns sends records of all sizes, so that batches end anywhere: every record is acknowledged once, nearly all of them
// together with others, and a run never goes beyond its batch, or the ones behind it would count as acknowledged when
// they are not.
func TestRuns(t *testing.T) {
	const many = 10000
	cluster := fakeBroker(t, kfake.SeedTopics(2, "t"))
	var mtx sync.Mutex
	var sizes [2][]int // of the batches of each partition, in their order
	cluster.ControlKey(int16(kmsg.Produce), func(req kmsg.Request) (kmsg.Response, error, bool) {
		cluster.KeepControl()
		mtx.Lock()
		defer mtx.Unlock()
		for _, topic := range req.(*kmsg.ProduceRequest).Topics {
			for _, partition := range topic.Partitions {
				var batch kmsg.RecordBatch
				if err := batch.ReadFrom(partition.Records); err != nil {
					t.Error(err)
				}
				sizes[partition.Partition] = append(sizes[partition.Partition], int(batch.NumRecords))
			}
		}
		return nil, nil, false
	})
	c := connection(cluster.ListenAddrs()...)
	c.MessageMaxBytes, c.BatchSize = 20000, 20000
	p := open(t, c, nil, nil)
	var runs [2][][2]int64 // first and last offset of each run
	o := expectOutcomes(t, many)
	p.AcknowledgeBy(func(records []*outbox.Record) {
		mtx.Lock()
		defer mtx.Unlock()
		at := records[0].Partition
		for i, r := range records {
			o.add(r, nil)
			if r.Partition != at || r.Offset != records[0].Offset+int64(i) {
				t.Errorf("record %d of a run from %d/%d stands at %d/%d", i, at, records[0].Offset, r.Partition, r.Offset)
			}
		}
		runs[at] = append(runs[at], [2]int64{records[0].Offset, records[len(records)-1].Offset})
	})
	random := rand.New(rand.NewPCG(1, 2))
	made := numbers("t", 0, many)
	for i := range made {
		r := &made[i]
		r.Key, r.Value = fmt.Append(nil, i%100), make([]byte, random.IntN(400))
		if i%10 == 0 {
			r.Headers = []outbox.Header{{Name: "one", Value: []byte("header")}}
		}
	}
	records := minted(made...)
	for first := 0; first < many; first += 2500 {
		p.Send(records[first:first+2500], time.Now().Add(time.Minute), o.add)
	}
	o.allSent()
	mtx.Lock()
	defer mtx.Unlock()
	together := 0
	for partition, all := range runs {
		var end int64 // of the batch
		batch := 0
		for _, run := range all {
			together += int(run[1] - run[0] + 1)
			for ; batch < len(sizes[partition]) && end <= run[0]; batch++ {
				end += int64(sizes[partition][batch])
			}
			if run[1] >= end {
				t.Errorf("a run goes to %d, its batch to %d", run[1], end-1)
			}
		}
	}
	if together < many*3/4 {
		t.Errorf("%d of %d records were acknowledged together with others", together, many)
	}
}

// TestOrderKnowsBatches: what follows a batch may be sent as soon as the batch is acknowledged, and not before, though
// its records leave later. One that did not go into the batch for certain is waited for itself.
func TestOrderKnowsBatches(t *testing.T) {
	record := numbered("t", 0, 1)[0]
	synctest.Test(t, func(t *testing.T) {
		o := newOrder(int(4 * weight(&kgo.Record{})))
		var all []*attempt
		for range 5 {
			all = append(all, entrant(o, record, 0))
		}
		if isDone(all[0]) || all[0].last != 4 {
			t.Fatalf("the batch goes to %d, want 4", all[0].last)
		}
		asked := make(chan bool)
		ask := func(a *attempt) {
			go func() { asked <- isDone(a) }()
			synctest.Wait()
		}
		waits := func(what string) {
			t.Helper()
			select {
			case <-asked:
				t.Fatal(what)
			default:
			}
		}
		ask(all[4])
		waits("the second batch does not wait for the first")
		o.acknowledged(all[0])
		if <-asked {
			t.Fatal("the second batch is held back though the first was acknowledged")
		}
		sixth := entrant(o, record, 0)
		ask(sixth)
		waits("the third batch does not wait for the second")
		o.leaveTogether(all[0], 4)
		synctest.Wait()
		waits("the third batch does not wait for the second")
		o.leave(all[4], true)
		if !<-asked {
			t.Fatal("a record overtakes one that is to be tried again")
		}
	})
}
