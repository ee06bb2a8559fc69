package consume

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// A client consumes a topic under the first id it saw, and never another topic of the same name, whose
// offsets begin at 0. A deleted and recreated topic therefore needs a new client. Two signs exist. The first
// is a periodic comparison of the topics' ids, which may come too late to see the client's id. The second is
// a refusal of a fetch under the old id, since Kafka 3.1, which needs a fetching client.

// watchTopics looks for the topics subscribed by name, and for stale topics, until the end of the consumer.
func (c *Consumer) watchTopics() {
	defer host.Guard(c.log, "the watch for topics")
	w := &topicWatch{
		Consumer: c, missing: map[string]bool{}, ids: map[string][16]byte{},
		names: slices.DeleteFunc(slices.Clone(c.topics), func(t string) bool { return strings.HasPrefix(t, "^") }),
	}
	for {
		if c.tune.onLook != nil {
			c.tune.onLook()
		}
		w.find()
		wait := c.tune.known
		if slices.ContainsFunc(w.names, func(name string) bool { return w.missing[name] }) {
			wait = c.tune.missing
		}
		select {
		case <-c.life.Done():
			return
		case <-time.After(min(wait, c.tune.missing)): // however often a topic becomes stale
		}
		select {
		case <-c.life.Done():
			return
		case <-c.doubt:
		case <-time.After(max(0, wait-c.tune.missing)):
		}
	}
}

// topicWatch is the state of watchTopics.
type topicWatch struct {
	*Consumer
	checked *session // session with checked broker versions
	names   []string // subscribed to
	missing map[string]bool
	ids     map[string][16]byte
}

// find asks for the topics and says which are missing. The client itself waits for a missing topic in silence.
func (w *topicWatch) find() {
	w.mtx.Lock()
	s, wanted := w.session, slices.Clone(w.names)
	if s != nil {
		for name := range s.stale { // a match of a pattern is not among the names
			if !slices.Contains(wanted, name) {
				wanted = append(wanted, name)
			}
		}
	}
	w.mtx.Unlock()
	maps.DeleteFunc(w.missing, func(name string, _ bool) bool { return !slices.Contains(wanted, name) })
	if s == nil || len(wanted) == 0 { // which would ask for all
		return
	}
	req := kmsg.NewPtrMetadataRequest()
	for _, name := range wanted {
		topic := kmsg.NewMetadataRequestTopic()
		topic.Topic = kmsg.StringPtr(name)
		req.Topics = append(req.Topics, topic)
	}
	ctx, cancel := context.WithCancel(w.life)
	defer cancel()
	resp, err := req.RequestWith(ctx, s.client)
	if err != nil { // the broker cannot be reached, which hooks report
		w.hooks.ReportUnsent(client.AskingForTopics, err)
		w.unsettled(s)
		return
	}
	w.hooks.Recovered(client.AskingForTopics)
	w.checkVersions(ctx, s)
	for _, topic := range resp.Topics {
		switch {
		case topic.Topic == nil:
		case topic.ErrorCode == 0 && len(topic.Partitions) == 0:
			w.empty(*topic.Topic)
		default:
			w.found(s, *topic.Topic, topic.TopicID, kerr.ErrorForCode(topic.ErrorCode))
		}
	}
}

// checkVersions reports, once for a session, brokers without supported versions of the fetch requests. The
// client itself retries silently.
func (w *topicWatch) checkVersions(ctx context.Context, s *session) {
	if w.checked == s {
		return
	}
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, s.client)
	if err != nil { // hooks report the error, and the next round asks again
		return
	}
	w.checked = s
	for i := range resp.ApiKeys {
		offered := &resp.ApiKeys[i]
		switch kmsg.Key(offered.ApiKey) {
		case kmsg.Fetch, kmsg.ListOffsets:
			if offered.MinVersion > kmsg.RequestForKey(offered.ApiKey).MaxVersion() {
				w.hooks.Report(fetching, client.VersionsDoNotFit)
				return
			}
		}
	}
}

// empty handles a topic listed without partitions. The client would look again only after metadataMaxAge.
func (w *topicWatch) empty(name string) {
	if !w.missing[name] {
		w.missing[name] = true
		host.Logf(w.log, host.Warning, "connection %s: topic %s, which group %s subscribes to: %s", w.name, name, w.group, client.SentenceOf(client.NoPartitions))
	}
}

// found handles the brokers' answer about one topic.
func (w *topicWatch) found(s *session, name string, id [16]byte, err error) {
	if err == nil {
		if !w.compare(s, name, w.ids[name], id) {
			w.lookAgain()
			return
		}
		w.ids[name] = id
		w.hooks.Recovered(aPartition(name, -1))
	}
	switch {
	case err == nil && w.missing[name]:
		delete(w.missing, name)
		s.client.ForceMetadataRefresh() // with patterns among the topics the client would look much later
		host.Logf(w.log, host.Notice, "connection %s: topic %s is there now", w.name, name)
	case err == nil:
	case client.UnknownTopic(err):
		w.gone(s, name, w.ids[name])
		if w.missing[name] {
			return
		}
		w.missing[name] = true
		host.Logf(w.log, host.Warning, "connection %s: topic %s, which group %s subscribes to, does not exist; "+
			"it is consumed as soon as it does", w.name, name, w.group)
	case kerr.IsRetriable(err):
		w.unsettled(s)
	default:
		w.report(name, -1, err)
	}
}

// unsettled handles a round without an answer. A stale topic is not fetched until an answer, so the next
// round follows soon.
func (w *topicWatch) unsettled(s *session) {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	if w.session == s && len(s.stale) > 0 {
		w.lookAgain()
	}
}

// compare begins a new session for a deleted and recreated topic. before is the id in the previous round, if
// any, and now the present id. Brokers before Kafka 2.8 have no topic ids. compare returns false if the
// session has changed meanwhile; the next round compares with the new client.
func (c *Consumer) compare(s *session, topic string, before, now [16]byte) bool {
	var none [16]byte
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.session != s {
		return false
	}
	used, stale := s.stale[topic]
	switch {
	case stale && used == now, stale && now == none: // some brokers did not know the topic
		delete(s.stale, topic)
		if s.cleared == nil {
			s.cleared = map[string]bool{}
		}
		s.cleared[topic] = true
		if !c.paused[topic] {
			s.client.ResumeFetchTopics(topic)
		}
	case !stale && (before == none || now == none || before == now):
	default:
		if !stale {
			s.lose(topic, before)
		}
		c.renew = fmt.Sprintf("topic %s was deleted and created again", topic)
		c.changed()
	}
	return true
}

// gone handles a missing topic. id is the id in the previous round, if any.
func (c *Consumer) gone(s *session, topic string, id [16]byte) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	_, stale := s.stale[topic]
	if c.session == s && !stale && s.assigned[topic] != nil {
		s.lose(topic, id)
	}
}

// lose marks a topic as missing under the id known to the session's client. The client would fetch the topic
// without a pause and without success. Caller must hold the consumer's mtx.
func (s *session) lose(topic string, id [16]byte) {
	if s.stale == nil {
		s.stale = map[string][16]byte{}
	}
	s.stale[topic] = id
	s.client.PauseFetchTopics(topic)
}

// doubted makes watchTopics look for a topic unknown to the brokers under the fetched id: the topic was
// deleted, or some brokers do not know it yet. doubted returns false if the error must be reported: without
// an id, and if an earlier round has found the topic under this id, because the next round may find no cause
// either.
func (c *Consumer) doubted(s *session, topic string, id [16]byte) bool {
	if id == [16]byte{} {
		return false
	}
	c.mtx.Lock()
	defer c.mtx.Unlock()
	s.lose(topic, id)
	c.lookAgain()
	return !s.cleared[topic]
}

// lookAgain has watchTopics look without waiting for tune.known to pass.
func (c *Consumer) lookAgain() {
	select {
	case c.doubt <- struct{}{}:
	default:
	}
}
