package serve

import (
	"errors"
	"fmt"
	"sync/atomic"

	"reskafka/internal/boundary"
	"reskafka/internal/engine"
	"reskafka/internal/host"
)

// row is the handling of one kind of request.
type row struct {
	// decode reads the fields and returns the engine's call. The call returns the answer, or nil for an empty
	// answer or none.
	decode func(f *boundary.Frame) (call func(s *Server) boundary.Body, err error)
	failed boundary.Body // the answer after a panic
	beside bool          // the call may block: it runs beside all others, out of order
	after  bool          // the call begins after the earlier calls have returned, as it depends on their results
}

// of returns the row of requests of type Q.
func of[Q any, P interface {
	*Q
	boundary.Body
}](call func(s *Server, q *Q) boundary.Body, failed boundary.Body) row {
	return row{failed: failed, decode: func(f *boundary.Frame) (func(s *Server) boundary.Body, error) {
		q := new(Q)
		err := f.Decode(P(q))
		return func(s *Server) boundary.Body { return call(s, q) }, err
	}}
}

// plain returns the row of requests without fields.
func plain(call func(s *Server) boundary.Body) row {
	return row{decode: func(f *boundary.Frame) (func(s *Server) boundary.Body, error) { return call, f.Decode(nil) }}
}

// beside returns a row for calls that may block.
func beside(r row) row {
	r.beside = true
	return r
}

// waiter is a queue of messages or of delivery reports; the module waits for its contents.
type waiter struct{ number atomic.Uint64 } // of the waiting request; 0 = none

// waiting returns the row of requests on a queue. The module repeats a request after a lost answer: the new
// request takes the place of the one in wait.
func waiting[Q any, P interface {
	*Q
	boundary.Body
}](find func(s *Server, q *Q) *waiter, next func(s *Server, q *Q) boundary.Body, failed boundary.Body) row {
	return row{failed: failed, beside: true, after: true, decode: func(f *boundary.Frame) (func(s *Server) boundary.Body, error) {
		q, kind, number := new(Q), f.Kind, f.Number
		err := f.Decode(P(q))
		return func(s *Server) boundary.Body {
			w := find(s, q)
			if w == nil {
				return failed
			}
			if w.number.Swap(number) != 0 {
				return elsewhere{}
			}
			body := failed
			defer func() { s.answer(request{kind: kind, number: w.number.Swap(0), row: row{failed: failed}}, body) }()
			body = next(s, q)
			return elsewhere{}
		}, err
	}}
}

// elsewhere stands for an answer to another request.
type elsewhere struct{}

// Put implements boundary.Body; never sent.
func (elsewhere) Put(*boundary.Writer) {}

// Get implements boundary.Body; never received.
func (elsewhere) Get(*boundary.Reader) {}

// request is a decoded request.
type request struct {
	row    row
	kind   boundary.Kind
	number uint64 // 0 = there is no answer
	call   func(s *Server) boundary.Body
}

// handle starts a request. An error breaks the connection.
func (s *Server) handle(f *boundary.Frame) error {
	row, ok := rows[f.Kind]
	if !ok {
		return fmt.Errorf("%w: %s comes twice", boundary.ErrFormat, f.Kind)
	}
	call, err := row.decode(f)
	if err != nil {
		return err
	}
	r := request{row, f.Kind, f.Number, call}
	if row.beside && !row.after {
		go s.serve(r)
	} else {
		s.ordered <- r
	}
	return nil
}

// inOrder runs, or begins, the ordered requests one after the other.
func (s *Server) inOrder() {
	for r := range s.ordered {
		if r.row.beside {
			go s.serve(r)
		} else {
			s.serve(r)
		}
	}
}

// serve calls the engine and sends the answer. A panic is logged and becomes an answer.
func (s *Server) serve(r request) {
	defer func() {
		if p := recover(); p != nil {
			host.LogPanic(s.log, "a request from Asterisk, "+r.kind.String(), p)
			s.answer(r, r.row.failed)
		}
	}()
	s.answer(r, r.call(s))
}

// answer sends the answer to a request.
func (s *Server) answer(r request, body boundary.Body) {
	if r.number == 0 || body == (elsewhere{}) {
		return
	}
	if err := s.conn.Answer(r.kind, r.number, body); errors.Is(err, boundary.ErrFormat) {
		host.Logf(s.log, host.Error, "an answer to Asterisk is lost: %v", err)
		_ = s.conn.Answer(r.kind, r.number, r.row.failed)
	}
}

// result returns the engine's error as the result of a request. The error was logged.
func result(err error) boundary.Result {
	switch {
	case err == nil:
		return boundary.ResultOK
	case errors.Is(err, engine.ErrNotFound):
		return boundary.ResultENOENT
	case errors.Is(err, engine.ErrDisabled):
		return boundary.ResultEDISABLED
	case errors.Is(err, engine.ErrStopped):
		return boundary.ResultESTATE
	default:
		return boundary.ResultEINVAL
	}
}
