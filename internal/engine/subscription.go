package engine

import (
	"slices"
	"strings"
	"sync"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	kafka "reskafka/internal/kafka/client"
	"reskafka/internal/kafka/consume"
)

// subscription is one membership of a connection's consumer group, for as long as a module wants it. The consumer
// behind it is replaced when a reload changes the connection, and there is none while the connection is not in the
// configuration in force.
type subscription struct {
	connection *connection
	topics     []string
	progress   consume.Progress

	mtx      sync.Mutex
	consumer *consume.Consumer  // nil = there is none now
	status   *kafka.Status      // of the last consumer
	settings *config.Connection // what the next consumer is made with; nil = wait for a reload
	changed  chan struct{}      // closed when settings or ended change
	ended    bool
}

// batchMost is the most messages that one call of Next gives: enough that the call costs a message next to nothing. Their
// bytes are bounded by the consumer.
const batchMost = 4000

// noConsumer is why a connection cannot consume; empty = it can.
func noConsumer(settings *config.Connection) string {
	if settings.GroupID == "" {
		return "it has no group_id in kafka.conf"
	}
	return settings.NoConsumer
}

// checkConsumer logs why a connection cannot consume, and returns that as an error.
func (e *Engine) checkConsumer(name string) error {
	c, err := e.connection(name)
	switch {
	case err == ErrStopped:
	case err == ErrDisabled:
		host.Logf(e.log, host.Error, "no consumer for connection '%s': %s", name, disabled)
	case err != nil:
		host.Logf(e.log, host.Error, "no consumer for connection '%s': %s", name, e.whyNone(name))
	default:
		settings := c.settings.Load()
		if settings == nil {
			return ErrNotFound // removed just now
		}
		if why := noConsumer(settings); why != "" {
			host.Logf(e.log, host.Error, "no consumer for connection '%s': %s", name, why)
			return ErrInvalid
		}
	}
	return err
}

// Subscribe makes a connection a member of its group for topics, a comma-separated list. id is the number of the
// subscription for every other call; no other subscription has it. Subscribe touches no network.
func (e *Engine) Subscribe(name, topics string, id uint64, progress consume.Progress) error {
	if err := e.checkConsumer(name); err != nil {
		return err
	}
	wanted := splitTopics(topics)
	if len(wanted) == 0 {
		host.Logf(e.log, host.Error, "connection '%s': a subscription needs the name of at least one topic", name)
		return ErrInvalid
	}
	e.configuring.Lock()
	defer e.configuring.Unlock()
	c, err := e.connection(name)
	if err != nil {
		return err
	}
	if id == 0 || e.subscription(id) != nil {
		host.Logf(e.log, host.Error, "connection '%s': a subscription cannot have number %d, which is used", name, id)
		return ErrInvalid
	}
	s := &subscription{connection: c, topics: wanted, progress: progress, settings: c.settings.Load(), changed: make(chan struct{})}
	if err := s.open(); err != nil {
		host.Logf(e.log, host.Error, "subscribing to %s: %v", strings.Join(wanted, ", "), err)
		return ErrInvalid
	}
	e.mtx.Lock()
	defer e.mtx.Unlock()
	e.subscriptions[id] = s
	return nil
}

// splitTopics takes a list apart; blanks around names and empty names count for nothing.
func splitTopics(list string) []string {
	var topics []string
	for topic := range strings.SplitSeq(list, ",") {
		if topic = strings.TrimSpace(topic); topic != "" && !slices.Contains(topics, topic) {
			topics = append(topics, topic)
		}
	}
	return topics
}

// open makes the consumer. The subscription's mutex is held, or nobody else knows it yet.
func (s *subscription) open() error {
	e := s.connection.engine
	status := &kafka.Status{}
	if s.status != nil {
		status.Follow(s.status)
	}
	consumer, err := consume.NewConsumer(s.settings, s.topics, e.log, status, s.progress, e.departures)
	if err == nil {
		s.consumer, s.status = consumer, status
	}
	return err
}

// subscription finds one by its number.
func (e *Engine) subscription(id uint64) *subscription {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	return e.subscriptions[id]
}

// Next blocks until the subscription has messages; false when it has ended. Only its own thread calls it. What
// Progress does not count of the batch before comes again.
func (e *Engine) Next(id uint64) (*consume.Batch, bool) {
	s := e.subscription(id)
	if s == nil {
		return nil, false
	}
	for {
		consumer, changed, ended := s.current()
		switch {
		case consumer != nil:
			if batch, ok := consumer.Next(batchMost); ok {
				return batch, true
			}
			s.forget(consumer)
		case ended:
			return nil, false
		default:
			<-changed
		}
	}
}

// current gives the consumer, made anew when a reload has ended the one before.
func (s *subscription) current() (consumer *consume.Consumer, changed <-chan struct{}, ended bool) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.consumer == nil && s.settings != nil && !s.ended {
		if err := s.open(); err != nil {
			host.Logf(s.connection.engine.log, host.Error, "subscribing to %s again: %v; the next reload will try it", strings.Join(s.topics, ", "), err)
			s.settings = nil
		}
	}
	return s.consumer, s.changed, s.ended
}

func (s *subscription) forget(consumer *consume.Consumer) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.consumer == consumer {
		s.consumer = nil
	}
}

// change puts other settings in force: the consumer ends once the callback under way has returned, and Next makes the
// next one. nil = there is no such connection for now.
func (s *subscription) change(settings *config.Connection) {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if s.ended {
		return
	}
	if settings != nil && settings.GroupID == "" {
		settings = nil
	}
	if s.settings != nil && settings != nil && len(s.settings.Changed(settings)) == 0 {
		return
	}
	s.settings = settings
	if s.consumer != nil {
		s.consumer.Stop()
	}
	close(s.changed)
	s.changed = make(chan struct{})
}

// end has the subscription end as soon as the callback under way has returned; now = without waiting for that.
func (s *subscription) end(now bool) {
	switch consumer := s.finish(); {
	case consumer == nil:
	case now:
		consumer.Close()
	default:
		consumer.Stop()
	}
}

// endWithin is end without waiting for a callback, and with a limit for what the brokers may take.
func (s *subscription) endWithin(limit time.Duration) {
	if consumer := s.finish(); consumer != nil {
		consumer.CloseWithin(limit)
	}
}

// finish lets no other consumer be made, and gives the one there is.
func (s *subscription) finish() *consume.Consumer {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if !s.ended {
		s.ended, s.settings = true, nil
		close(s.changed)
	}
	return s.consumer
}

// Unsubscribe ends a subscription: no callback begins any more, what was delivered is committed where auto-commit is on,
// and Next answers false after that. It does not wait for a callback under way.
func (e *Engine) Unsubscribe(id uint64) {
	if s := e.subscription(id); s != nil {
		s.end(false)
	}
}

// FreeSubscription ends a subscription if need be and forgets it.
func (e *Engine) FreeSubscription(id uint64) {
	s := e.subscription(id)
	if s == nil {
		return
	}
	s.end(true)
	e.mtx.Lock()
	defer e.mtx.Unlock()
	delete(e.subscriptions, id)
}

// Commit commits what a subscription has delivered; with current set, the message whose callback is under way counts as
// delivered. It blocks until the broker has answered, request_timeout_ms at most.
func (e *Engine) Commit(id uint64, current bool) error {
	s := e.subscription(id)
	if s == nil {
		return ErrNotFound
	}
	s.mtx.Lock()
	consumer := s.consumer
	s.mtx.Unlock()
	if consumer == nil {
		return ErrNotFound
	}
	if err := consumer.Commit(e.life, current); err != nil {
		host.Logf(e.log, host.Error, "connection '%s': committing offsets: %v", s.connection.name, err)
		return ErrInvalid
	}
	return nil
}

// Pause holds the messages of some topics of a subscription back, of all when topics is empty, or lets them go on.
func (e *Engine) Pause(id uint64, topics string, on bool) error {
	s := e.subscription(id)
	if s == nil {
		return ErrNotFound
	}
	s.mtx.Lock()
	defer s.mtx.Unlock()
	switch {
	case s.consumer == nil:
		return ErrNotFound
	case on:
		s.consumer.Pause(splitTopics(topics)...)
	default:
		s.consumer.Resume(splitTopics(topics)...)
	}
	return nil
}
