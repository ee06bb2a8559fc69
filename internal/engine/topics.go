package engine

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/event"
	"reskafka/internal/host"
	"reskafka/internal/kafka/admin"
	"reskafka/internal/throttle"
)

// EnsureTopic creates a missing topic; the broker chooses partitions or replicas for 0 or less. EnsureTopic
// waits for the broker, request_timeout_ms plus two seconds at most, or continues in the background until
// Stop.
func (e *Engine) EnsureTopic(name, topic string, partitions, replication int, wait bool) error {
	c, err := e.connection(name)
	if err != nil {
		if err != ErrStopped {
			host.Logf(e.log, host.Error, "connection '%s': topic '%s' is not made: the connection is not in kafka.conf, or Kafka is disabled", name, topic)
		}
		return err
	}
	settings := c.settings.Load()
	if fault := config.TopicFault(topic); settings == nil || topic == "" || fault != "" {
		host.Logf(e.log, host.Error, "connection '%s': a topic cannot be called '%s'", name, topic)
		return ErrInvalid
	}
	ensure := func() error {
		defer host.Guard(e.log, "creating a topic")
		err := admin.EnsureTopic(e.life, settings, topic, partitions, replication, e.log)
		if err != nil && !errors.Is(err, context.Canceled) {
			host.Logf(e.log, host.Error, "%v", err)
		}
		return err
	}
	if wait {
		if ensure() != nil {
			return ErrInvalid
		}
		return nil
	}
	e.configuring.Lock() // Stop, which waits for the background, has not begun
	defer e.configuring.Unlock()
	if e.isStopped() {
		return ErrStopped
	}
	e.background.Go(func() { _ = ensure() })
	return nil
}

// CreateTopic implements console.Env.
func (e *Engine) CreateTopic(ctx context.Context, name, topic string, partitions, replication int) (created bool, err error) {
	c, err := e.connection(name)
	if err != nil {
		return false, err
	}
	settings := c.settings.Load()
	if settings == nil {
		return false, ErrNotFound
	}
	if fault := config.TopicFault(topic); topic == "" || fault != "" {
		return false, fmt.Errorf("a topic cannot be called '%s'", topic)
	}
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	defer context.AfterFunc(e.life, cancel)()
	return admin.CreateTopic(ctx, settings, topic, partitions, replication, e.log)
}

// createLater creates the topic of an event source in the background, with retries: the brokers may be
// unreachable at Asterisk's start. The retries end with the source. Caller must hold configuring.
func (e *Engine) createLater(c *connection, source event.Source) {
	topic := source.Topic()
	if topic.Partitions == 0 && topic.Replication == 0 {
		return
	}
	e.background.Go(func() {
		defer host.Guard(e.log, "creating a topic")
		lines := throttle.New(time.Minute, time.Now)
		for wait := time.Second; ; wait = min(2*wait, time.Minute) {
			settings := c.settings.Load()
			if e.isStopped() || !e.isOpen(source) || settings == nil {
				return
			}
			created, err := admin.CreateTopic(e.life, settings, topic.Name, topic.Partitions, topic.Replication, e.log)
			switch {
			case created:
				host.Logf(e.log, host.Notice, "connection %s: topic %s created", settings.Name, topic.Name)
				return
			case err == nil, errors.Is(err, context.Canceled):
				return
			}
			if _, ok := lines.Allow(""); ok {
				host.Logf(e.log, host.Warning, "connection %s: topic %s is not created: %v; it is tried again", settings.Name, topic.Name, err)
			}
			select {
			case <-time.After(wait):
			case <-e.life.Done():
			}
		}
	})
}

// isOpen reports whether an event source is in use.
func (e *Engine) isOpen(source event.Source) bool {
	return slices.ContainsFunc(*e.sources.Load(), func(other openSource) bool { return other.Source == source })
}
