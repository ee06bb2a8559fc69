package engine

import (
	"context"
	"slices"
	"strings"
	"sync"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	kafka "reskafka/internal/kafka/client"
	"reskafka/internal/kafka/consume"
)

// subscription is one membership of a connection's consumer group, from a module's subscribe to the
// unsubscribe. A reload with a changed connection replaces the consumer; without the connection in the
// configuration there is no consumer.
type subscription struct {
	connection *connection
	topics     []string
	progress   consume.Progress

	mtx      sync.Mutex
	consumer *consume.Consumer  // nil = there is none now
	status   *kafka.Status      // of the last consumer
	settings *config.Connection // for the next consumer; nil = wait for a reload
	changed  chan struct{}      // closed when settings or ended change
	ended    bool
}

// batchMost is the limit of messages in one result of Next; at this number the cost of the call per message
// is negligible. The consumer limits the bytes.
const batchMost = 4000

// noConsumer returns the obstacle to a connection's consumer; empty = none.
func noConsumer(settings *config.Connection) string {
	if settings.GroupID == "" {
		return "it has no group_id in kafka.conf"
	}
	return settings.NoConsumer
}

// checkConsumer logs the obstacle to a connection's consumer, and returns the obstacle as an error.
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

// Subscribe makes a connection a member of a group for topics, a comma-separated list. id is the
// subscription's number in every other call and unique. Subscribe touches no network.
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

// open creates the consumer. Caller must hold the subscription's mutex, unless the subscription is new.
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

// subscription finds a subscription by number.
func (e *Engine) subscription(id uint64) *subscription {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	return e.subscriptions[id]
}

// Next blocks until the subscription has messages; false after its end. Only for the subscription's own
// thread. Messages of the last batch beyond Progress come again.
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

// BatchMax returns the present limit of a subscription's batch, bytes; 0 = its connection is missing.
func (e *Engine) BatchMax(id uint64) int {
	if s := e.subscription(id); s != nil {
		if settings := s.connection.settings.Load(); settings != nil {
			return consume.BatchMax(settings)
		}
	}
	return 0
}

// LeaveOut logs a message that the module cannot get.
func (e *Engine) LeaveOut(id uint64, topic string, partition int32, offset int64, bytes int) {
	name := ""
	if s := e.subscription(id); s != nil {
		name = s.connection.name
	}
	host.Logf(e.log, host.Error, "connection '%s': a message is left out, topic '%s' partition %d offset %d: it needs %d bytes, more than %d; a larger message_max_bytes raises the limit",
		name, topic, partition, offset, bytes, e.BatchMax(id))
}

// current returns the consumer, or a new consumer after a reload has ended the last one.
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

// change puts other settings in force. The consumer ends after the running callback, and Next creates the
// next one. nil = the connection is missing for now.
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

// end ends the subscription after the running callback; now = at once.
func (s *subscription) end(now bool) {
	switch consumer := s.finish(); {
	case consumer == nil:
	case now:
		consumer.Close()
	default:
		consumer.Stop()
	}
}

// endWithin ends the subscription at once, with a limit for the brokers.
func (s *subscription) endWithin(limit time.Duration) {
	if consumer := s.finish(); consumer != nil {
		consumer.CloseWithin(limit)
	}
}

// finish prevents further consumers, and returns the present one.
func (s *subscription) finish() *consume.Consumer {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	if !s.ended {
		s.ended, s.settings = true, nil
		close(s.changed)
	}
	return s.consumer
}

// Unsubscribe ends a subscription: no callback begins afterwards, delivered messages are committed if
// auto-commit is on, and Next returns false. Unsubscribe does not wait for a running callback.
func (e *Engine) Unsubscribe(id uint64) {
	if s := e.subscription(id); s != nil {
		s.end(false)
	}
}

// FreeSubscription ends a subscription if necessary and forgets the number.
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

// EndMember ends the membership of a killed engine in the background, for a subscription that ended without an
// engine; see consume.EndMember. The attempts end with the session of the member.
func (e *Engine) EndMember(name, member string, positions []consume.Position) {
	c, err := e.connection(name)
	if err != nil {
		return
	}
	settings := c.settings.Load()
	e.configuring.Lock() // Stop, which waits for the background, has not begun
	defer e.configuring.Unlock()
	if settings == nil || e.isStopped() {
		return
	}
	e.background.Go(func() {
		defer host.Guard(e.log, "ending a membership")
		ctx, cancel := context.WithTimeout(e.life, settings.SessionTimeout)
		defer cancel()
		committed, err := consume.EndMember(ctx, settings, member, positions, e.log)
		switch {
		case err != nil:
			host.Logf(e.log, host.Warning, "connection '%s': the last offsets of a subscription that ended without an engine are not committed, messages may come again: %v", name, err)
		case committed > 0:
			host.Logf(e.log, host.Notice, "connection '%s': offsets of %d partition(s) are committed for a subscription that ended without an engine", name, committed)
		}
	})
}

// Commit commits the delivered messages of a subscription; with current, the running callback's message
// counts as delivered. Commit blocks until the broker's answer, for request_timeout_ms at most.
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

// Pause withholds the messages of some topics of a subscription, of all for empty topics, or releases them.
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
