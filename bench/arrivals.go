package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kgo"
)

// arrivals are the messages of `kafka bench send`, as they arrive at a consumer of this process.
type arrivals struct {
	client *kgo.Client
	cancel context.CancelFunc
	done   chan struct{} // closed after the last poll

	mu    sync.Mutex
	count int
	times []float64 // from the call to the arrival, ns; without messages of other commands
	err   error
}

// arrivalsOf consumes a topic from the beginning until stop.
func arrivalsOf(ctx context.Context, address, topic string) (*arrivals, error) {
	client, err := kgo.NewClient(kgo.SeedBrokers(address), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()))
	if err != nil {
		return nil, fmt.Errorf("making a consumer: %w", err)
	}
	ctx, cancel := context.WithCancel(ctx)
	a := &arrivals{client: client, cancel: cancel, done: make(chan struct{})}
	go a.poll(ctx)
	return a, nil
}

func (a *arrivals) poll(ctx context.Context) {
	defer close(a.done)
	for ctx.Err() == nil {
		fetched := a.client.PollFetches(ctx)
		now := time.Now().UnixNano()
		a.mu.Lock()
		fetched.EachRecord(func(r *kgo.Record) {
			a.count++
			var run, sent int64
			if n, _ := fmt.Sscanf(string(r.Value), `{"run":%d,"sent":%d`, &run, &sent); n == 2 {
				a.times = append(a.times, float64(now-sent))
			}
		})
		if err := fetched.Err(); err != nil && ctx.Err() == nil {
			a.err = err
		}
		a.mu.Unlock()
	}
}

// stop waits for count messages in all, and returns the times.
func (a *arrivals) stop(ctx context.Context, count int) ([]float64, error) {
	ctx, end := context.WithTimeout(ctx, arrivalTimeout)
	defer end()
	var err error
	for a.arrived() < count && err == nil {
		err = sleep(ctx, pollEvery)
	}
	a.cancel()
	<-a.done
	a.client.Close()
	if err != nil {
		err = fmt.Errorf("%d of %d messages have come to the consumer: %w", a.count, count, err)
	}
	return a.times, errors.Join(err, a.err)
}

func (a *arrivals) arrived() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.count
}

// percentile returns the smallest of sorted numbers with this share at or below it; NaN of none.
func percentile(sorted []float64, share float64) float64 {
	if len(sorted) == 0 {
		return math.NaN()
	}
	return sorted[max(int(math.Ceil(share*float64(len(sorted))))-1, 0)]
}
