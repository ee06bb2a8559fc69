package admin

import (
	"context"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"net"
	"sync"
	"time"

	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/kafka/client"
)

// adminGrace is added to request_timeout_ms in EnsureTopic: the broker may use the whole timeout, and the
// answer still needs time to arrive.
const adminGrace = 2 * time.Second

// EnsureTopic is CreateTopic for callers that accept an existing topic.
func EnsureTopic(ctx context.Context, c *config.Connection, topic string, partitions, replication int, log host.Logger) error {
	if _, err := CreateTopic(ctx, c, topic, partitions, replication, log); err != nil {
		return fmt.Errorf("connection %s: creating topic %s: %w", c.Name, topic, err)
	}
	return nil
}

// CreateTopic creates a missing topic, and reports whether it did. The broker chooses partitions or
// replication for 0 or less. CreateTopic blocks until a broker has answered, ctx is done, or
// request_timeout_ms and two seconds have passed; an unreachable broker is tried again until then.
// CreateTopic uses its own client. An error has the broker's code and message. log may be nil.
func CreateTopic(ctx context.Context, c *config.Connection, topic string, partitions, replication int, log host.Logger) (created bool, err error) {
	debug := client.NewLogger(c, log)
	debug.Logf("admin", "creating topic %s with %d partitions and %d replicas", topic, partitions, replication)
	err = ensureTopic(ctx, c, topic, partitions, replication, debug)
	if err != nil && err != errTopicThere {
		debug.Logf("admin", "topic %s was not created: %v", topic, err)
		return false, err
	}
	debug.Logf("admin", "topic %s is there", topic)
	return err == nil, nil
}

// errTopicThere is the result for an existing topic.
var errTopicThere = errors.New("the topic is there")

func ensureTopic(ctx context.Context, c *config.Connection, topic string, partitions, replication int, debug *client.Logger) error {
	if topic == "" {
		return errors.New("a topic needs a name")
	}
	ctx, cancel := context.WithTimeout(ctx, c.RequestTimeout+adminGrace)
	defer cancel()
	trouble := &lastFailure{facts: client.FactsOf(c)}
	cl, err := adminClient(ctx, c, trouble, debug)
	if err != nil {
		return err
	}
	defer cl.Close()

	req := kmsg.NewPtrCreateTopicsRequest()
	req.TimeoutMillis = int32(client.Clamp(c.RequestTimeout, client.MinRequestTimeout, client.MaxRequestTimeout).Milliseconds())
	wanted := kmsg.NewCreateTopicsRequestTopic()
	wanted.Topic, wanted.NumPartitions, wanted.ReplicationFactor = topic, -1, -1
	if partitions > 0 {
		wanted.NumPartitions = int32(min(partitions, math.MaxInt32))
	}
	if replication > 0 {
		wanted.ReplicationFactor = int16(min(replication, math.MaxInt16))
	}
	req.Topics = append(req.Topics, wanted)

	backoff := client.Backoff(c.ReconnectBackoff, c.ReconnectBackoffMax, rand.Float64)
	for failures := 1; ; failures++ {
		again, err := create(ctx, cl, req, trouble)
		if err == nil || !again {
			return err
		}
		select {
		case <-ctx.Done():
			return trouble.explain(err)
		case <-time.After(backoff(failures)):
		}
	}
}

// create sends one request and reports whether a retry may help.
func create(ctx context.Context, cl *kgo.Client, req *kmsg.CreateTopicsRequest, trouble *lastFailure) (again bool, err error) {
	resp, err := req.RequestWith(ctx, cl)
	if err != nil {
		_, answered := errors.AsType[*kerr.Error](err)
		_, refused := errors.AsType[*client.HandshakeError](err)
		return !answered && !refused, trouble.explain(client.WithDescription(err, client.ToCreate))
	}
	if len(resp.Topics) != 1 {
		return false, fmt.Errorf("the broker answered for %d topics", len(resp.Topics))
	}
	err = client.AnswerOf(resp.Topics[0].ErrorCode, resp.Topics[0].ErrorMessage, client.ToCreate)
	if err == nil {
		return false, nil
	}
	if errors.Is(err, kerr.TopicAlreadyExists) {
		return false, errTopicThere
	}
	if errors.Is(err, kerr.TopicAuthorizationFailed) || errors.Is(err, kerr.ClusterAuthorizationFailed) {
		if exists(ctx, cl, req.Topics[0].Topic) { // without the right to create, brokers refuse even an existing topic
			return false, errTopicThere
		}
	}
	return kerr.IsRetriable(err), err // after a time-out the topic may exist
}

// explained is an error in better words.
type explained struct {
	err   error
	words string
}

func (e *explained) Error() string { return e.words }
func (e *explained) Unwrap() error { return e.err }

func adminClient(ctx context.Context, c *config.Connection, trouble *lastFailure, debug *client.Logger) (*kgo.Client, error) {
	net, err := client.NewDialer(c, ctx, &trouble.status, debug)
	if err != nil {
		return nil, err
	}
	net.Silence = c.RequestTimeout + adminGrace // the broker may take the whole of request_timeout_ms
	opts, err := client.Options(c, net, debug)
	if err != nil {
		return nil, err
	}
	opts = append(opts, kgo.WithContext(ctx), kgo.WithHooks(trouble), kgo.MetadataMinAge(client.MetadataMinAge))
	cl, err := kgo.NewClient(opts...)
	if err != nil {
		return nil, fmt.Errorf("setting up the client: %w", err)
	}
	return cl, nil
}

// exists asks whether a topic is there, as far as this user may know.
func exists(ctx context.Context, cl *kgo.Client, topic string) bool {
	req := kmsg.NewPtrMetadataRequest()
	asked := kmsg.NewMetadataRequestTopic()
	asked.Topic = kmsg.StringPtr(topic)
	req.Topics = append(req.Topics, asked)
	resp, err := req.RequestWith(ctx, cl)
	return err == nil && len(resp.Topics) == 1 && resp.Topics[0].ErrorCode == 0
}

// lastFailure remembers why a broker was unusable, for the error after the deadline: the deadline alone
// explains nothing.
type lastFailure struct {
	facts  client.Facts
	status client.Status // of attempts to connect

	mtx      sync.Mutex
	addr     string
	err      error
	answered bool // a broker has answered a request
}

var (
	_ kgo.HookBrokerConnect = (*lastFailure)(nil)
	_ kgo.HookBrokerE2E     = (*lastFailure)(nil)
)

// OnBrokerConnect implements kgo.HookBrokerConnect.
func (l *lastFailure) OnBrokerConnect(meta kgo.BrokerMetadata, _ time.Duration, conn net.Conn, err error) {
	l.note(meta, client.DuringSetup(conn, err))
}

// OnBrokerE2E implements kgo.HookBrokerE2E.
func (l *lastFailure) OnBrokerE2E(meta kgo.BrokerMetadata, key int16, e2e kgo.BrokerE2E) {
	if client.IsSetup(key) {
		return
	}
	l.mtx.Lock()
	err := l.facts.DuringRequest(l.answered, e2e.Err())
	l.answered = l.answered || err == nil
	l.mtx.Unlock()
	l.note(meta, err)
}

func (l *lastFailure) note(meta kgo.BrokerMetadata, err error) {
	if err == nil || client.Expected(err) || errors.Is(err, context.DeadlineExceeded) {
		return
	}
	l.mtx.Lock()
	defer l.mtx.Unlock()
	l.addr, l.err = client.Address(meta), err
}

func (l *lastFailure) explain(err error) error {
	l.mtx.Lock()
	defer l.mtx.Unlock()
	if l.err == nil && (errors.Is(err, kgo.ErrClientClosed) || errors.Is(err, context.DeadlineExceeded)) {
		if stuck := l.status.Snapshot().Pending(); stuck != "" {
			return &explained{err, stuck}
		}
		return client.WithSentence(err, client.NoBrokerAnswered)
	}
	// An answer to a login ends the connection; any other answer belongs to the request.
	if answer, ok := errors.AsType[*kerr.Error](err); l.err == nil || ok && !errors.Is(l.err, answer) {
		return err
	}
	return &explained{l.err, "broker " + l.addr + " cannot be used: " + l.facts.WithAddress(l.addr, client.Describe(l.err)).String()}
}
