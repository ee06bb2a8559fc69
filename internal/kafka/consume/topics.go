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

// A client consumes a topic under the id that it first saw, and never another topic of that name: its offsets begin
// anew. So when a topic was deleted and created again there must be a new client. What tells is either a look at the
// topics' ids now and then, or the brokers, since Kafka 3.1, by refusing to fetch under the old id. The first is not enough:
// a look may come too late to see the id that the client has. The second comes only while the client fetches.

// watchTopics looks for the topics subscribed to by name, and for stale ones, until the consumer ends.
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

// topicWatch is what watchTopics knows.
type topicWatch struct {
	*Consumer
	checked *session // whose brokers' versions were looked at
	names   []string // subscribed to
	missing map[string]bool
	ids     map[string][16]byte
}

// find asks for the topics and says which are missing. The client itself waits for a missing topic in silence.
func (w *topicWatch) find() {
	w.mtx.Lock()
	s, wanted := w.session, slices.Clone(w.names)
	if s != nil {
		for name := range s.stale { // one that a pattern matches is not among the names
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

// checkVersions reports, once for a session, that the brokers' versions of what fetches messages do not fit. The client itself tries again
// in silence.
func (w *topicWatch) checkVersions(ctx context.Context, s *session) {
	if w.checked == s {
		return
	}
	resp, err := kmsg.NewPtrApiVersionsRequest().RequestWith(ctx, s.client)
	if err != nil { // hooks report that, and the next look asks again
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

// empty takes that the brokers list a topic without partitions. The client would look again after metadataMaxAge.
func (w *topicWatch) empty(name string) {
	if !w.missing[name] {
		w.missing[name] = true
		host.Logf(w.log, host.Warning, "connection %s: topic %s, which group %s subscribes to: %s", w.name, name, w.group, client.SentenceOf(client.NoPartitions))
	}
}

// found takes what the brokers say about one topic.
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

// unsettled takes that a look told nothing. A stale topic is not fetched until one does, so the next follows soon.
func (w *topicWatch) unsettled(s *session) {
	w.mtx.Lock()
	defer w.mtx.Unlock()
	if w.session == s && len(s.stale) > 0 {
		w.lookAgain()
	}
}

// compare begins a new session when a topic was deleted and created again. before is the id that it had at the look before,
// if any, and now the one it has. Brokers before Kafka 2.8 give topics no id. It gives false when there is another session than
// was looked with: whether that one's client has seen the same is for the next look to find out.
func (c *Consumer) compare(s *session, topic string, before, now [16]byte) bool {
	var none [16]byte
	c.mtx.Lock()
	defer c.mtx.Unlock()
	if c.session != s {
		return false
	}
	used, stale := s.stale[topic]
	switch {
	case stale && used == now, stale && now == none: // not all brokers knew of it
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

// gone takes that a topic is missing. id is the one that it had at the look before, if any.
func (c *Consumer) gone(s *session, topic string, id [16]byte) {
	c.mtx.Lock()
	defer c.mtx.Unlock()
	_, stale := s.stale[topic]
	if c.session == s && !stale && s.assigned[topic] != nil {
		s.lose(topic, id)
	}
}

// lose notes that a topic is not there any more as the session's client knows it, with the id it has there. The client would
// fetch it in vain without a pause. The caller holds the consumer's mtx.
func (s *session) lose(topic string, id [16]byte) {
	if s.stale == nil {
		s.stale = map[string][16]byte{}
	}
	s.stale[topic] = id
	s.client.PauseFetchTopics(topic)
}

// doubted has watchTopics look for a topic that the brokers do not know under the id it was fetched by: it was deleted, or not
// all brokers know of it yet. It gives false when that is to be reported: without an id, and when a look has found the topic
// to be there under this id before, so that the next may have nothing to say either.
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
