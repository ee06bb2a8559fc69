package serve

import (
	"errors"
	"fmt"

	"reskafka/internal/boundary"
	"reskafka/internal/engine"
	"reskafka/internal/host"
)

// row is how the requests of one kind are handled.
type row struct {
	// decode reads the fields and returns the call of the engine that makes the answer. The call returns nil for a message
	// that has no answer, or one without fields.
	decode func(f *boundary.Frame) (call func(s *Server) boundary.Body, err error)
	failed boundary.Body // the answer after a panic
	beside bool          // the call may block: it runs beside all others, not in their order
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

// beside returns a row whose calls may block.
func beside(r row) row {
	r.beside = true
	return r
}

// request is one that was decoded.
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
	if row.beside {
		go s.serve(r)
	} else {
		s.ordered <- r
	}
	return nil
}

// inOrder serves the requests that run one after the other.
func (s *Server) inOrder() {
	for r := range s.ordered {
		s.serve(r)
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
	if r.number == 0 {
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
