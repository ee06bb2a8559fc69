package serve

import (
	"math"
	"time"

	"reskafka/internal/boundary"
	"reskafka/internal/config"
	"reskafka/internal/console"
	"reskafka/internal/engine"
)

// rows has a row for each request but hello, which comes first and once.
var rows = map[boundary.Kind]row{
	boundary.ConfigureKind:        of(configure, &boundary.ConfigureAnswer{Result: boundary.ResultPanic}),
	boundary.ProducerOpenKind:     of(producerOpen, &boundary.ProducerOpenAnswer{Result: boundary.ResultPanic}),
	boundary.SourceOpenKind:       of(sourceOpen, &boundary.SourceOpenAnswer{Result: boundary.ResultPanic}),
	boundary.SubscribeKind:        of(subscribe, &boundary.SubscribeAnswer{Result: boundary.ResultPanic}),
	boundary.NextKind:             waiting(deliveryOf, next, &boundary.NextAnswer{}),
	boundary.UnsubscribeKind:      beside(of(unsubscribe, nil)),
	boundary.SubscriptionFreeKind: of(subscriptionFree, nil),
	boundary.EndMemberKind:        of(endMember, nil),
	boundary.CommitKind:           beside(of(commit, &boundary.CommitAnswer{Result: boundary.ResultPanic})),
	boundary.PauseKind:            of(pause, &boundary.PauseAnswer{Result: boundary.ResultPanic}),
	boundary.ReportsOpenKind:      of(reportsOpen, &boundary.ReportsOpenAnswer{Result: boundary.ResultPanic}),
	boundary.ReportsNextKind:      waiting(queueOf, reportsNext, &boundary.ReportsNextAnswer{}),
	boundary.ReportsCloseKind:     of(reportsClose, nil),
	boundary.EnsureTopicKind:      beside(of(ensureTopic, &boundary.EnsureTopicAnswer{Result: boundary.ResultPanic})),
	boundary.RunKind:              beside(of(run, &boundary.RunAnswer{Printed: []byte(console.Failure("The engine failed; the log says more.\n"))})),
	boundary.CompleteKind:         beside(of(complete, &boundary.CompleteAnswer{})),
	boundary.RefusedKind:          of(refused, nil),
	boundary.StopKind:             beside(of(stop, nil)),
	boundary.FaultKind:            beside(of(fault, &boundary.FaultAnswer{Result: boundary.ResultPanic})),
	boundary.PingKind:             beside(plain(ping)),
}

func configure(s *Server, q *boundary.ConfigureRequest) boundary.Body {
	a := &boundary.ConfigureAnswer{Result: result(s.engine.Configure(entries(q.Entries)))}
	var offers []engine.Offer
	offers, a.Otherwise = s.engine.Offers()
	for _, o := range offers {
		l := o.Limits
		a.Connections = append(a.Connections, boundary.Connection{
			Name: o.Name, NoProducer: o.NoProducer, NoConsumer: o.NoConsumer,
			RequestTimeoutMS: uint32(min(o.RequestTimeout.Milliseconds(), math.MaxUint32)), MessagesMax: uint64(o.MessagesMax),
			MaxFrames: uint64(l.Frames), MaxCharge: uint64(l.Charge), MaxLength: uint64(l.Length), LingerNs: uint64(l.LingerNS),
			MaxWeight: uint64(l.Weight), Shared: uint64(l.Shared), Memory: uint64(l.Memory),
		})
	}
	return a
}

func entries(list []boundary.Entry) []config.Entry {
	out := make([]config.Entry, 0, len(list))
	for _, e := range list {
		out = append(out, config.Entry{File: e.File, Line: int(e.Line), Section: e.Section, Name: e.Name, Value: e.Value, Inherited: e.Inherited})
	}
	return out
}

func producerOpen(s *Server, q *boundary.ProducerOpenRequest) boundary.Body {
	gate := s.ingest.Gate(q.ID)
	if gate == nil {
		return &boundary.ProducerOpenAnswer{Result: s.noNumber("gate", q.ID)}
	}
	return &boundary.ProducerOpenAnswer{Result: result(s.engine.OpenProducer(q.Name, q.ID, gate))}
}

func sourceOpen(s *Server, q *boundary.SourceOpenRequest) boundary.Body {
	source, connection, err := s.engine.OpenSource(q.Kind, entries(q.Entries), q.Source)
	return &boundary.SourceOpenAnswer{Result: result(err), Source: source, Connection: connection}
}

func refused(s *Server, q *boundary.RefusedRequest) boundary.Body {
	s.engine.Refused(q.ID, engine.Reason(q.Reason), q.Count, q.Sample)
	return nil
}

func ensureTopic(s *Server, q *boundary.EnsureTopicRequest) boundary.Body {
	err := s.engine.EnsureTopic(q.Name, q.Topic, int(q.Partitions), int(q.Replication), q.Wait)
	return &boundary.EnsureTopicAnswer{Result: result(err)}
}

func run(s *Server, q *boundary.RunRequest) boundary.Body {
	if int64(q.Index) >= int64(len(console.Commands)) {
		return &boundary.RunAnswer{Printed: []byte(console.Failure("The engine has no such command.\n"))}
	}
	printed, ok := console.Commands[q.Index].Run(s.engine, q.Words)
	if !ok {
		return &boundary.RunAnswer{}
	}
	return &boundary.RunAnswer{Printed: append([]byte{}, printed...)}
}

func complete(s *Server, q *boundary.CompleteRequest) boundary.Body {
	if int64(q.Index) >= int64(len(console.Commands)) || console.Commands[q.Index].Complete == nil {
		return &boundary.CompleteAnswer{}
	}
	return &boundary.CompleteAnswer{Candidates: console.Commands[q.Index].Complete(s.engine, q.Words, q.Word)}
}

// stop answers when everything is delivered or given up.
func stop(s *Server, q *boundary.StopRequest) boundary.Body {
	note(s.stopping)
	s.ingest.Drain() // records of before the stop are still for this engine
	s.finish(time.Duration(q.GraceMS) * time.Millisecond)
	note(s.stopped)
	return nil
}

// note leaves a token, unless an earlier stop has left one.
func note(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// ping answers after the records present in the ring are taken, so a hanging ring means no answer.
func ping(s *Server) boundary.Body {
	s.hang.RLock()
	defer s.hang.RUnlock()
	s.ingest.Drain()
	return nil
}
