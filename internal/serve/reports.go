package serve

import (
	"reskafka/internal/boundary"
	"reskafka/internal/engine"
	"reskafka/internal/host"
)

// maxReports is the limit of reports in one answer; at this number the answer's own cost per report is
// negligible.
const maxReports = 1000

// queue is an open queue of reports.
type queue struct {
	waiter
	*engine.Reports
}

func reportsOpen(s *Server, q *boundary.ReportsOpenRequest) boundary.Body {
	r, err := s.engine.OpenReports(q.ID)
	if err == nil {
		s.mtx.Lock()
		s.reports[q.ID] = &queue{Reports: r}
		s.mtx.Unlock()
	}
	return &boundary.ReportsOpenAnswer{Result: result(err)}
}

// queue returns an open queue of reports, or nil.
func (s *Server) queue(id uint64) *queue {
	s.mtx.Lock()
	defer s.mtx.Unlock()
	return s.reports[id]
}

func queueOf(s *Server, q *boundary.ReportsNextRequest) *waiter {
	if r := s.queue(q.ID); r != nil {
		return &r.waiter
	}
	return nil
}

func reportsNext(s *Server, q *boundary.ReportsNextRequest) boundary.Body {
	r := s.queue(q.ID)
	if r == nil { // closed just now
		return &boundary.ReportsNextAnswer{}
	}
	list, ok := r.Next(maxReports, q.Again)
	if !ok {
		return &boundary.ReportsNextAnswer{}
	}
	return outcomes(list)
}

// outcomes is boundary.ReportsNextAnswer, encoded straight from the engine's reports.
type outcomes []engine.Report

// Put implements boundary.Body.
func (o outcomes) Put(w *boundary.Writer) {
	w.Count(len(o))
	for i := range o {
		r := &o[i]
		w.Number(r.Opaque)
		w.Text(r.Topic)
		w.Number(uint64(int64(r.Partition)))
		w.Number(uint64(r.Offset))
		if r.Err == nil {
			w.Bytes(nil)
		} else {
			w.Text(host.Printable(r.Err.Error()))
		}
	}
}

// Get implements boundary.Body; never received.
func (o outcomes) Get(*boundary.Reader) {}

func reportsClose(s *Server, q *boundary.ReportsCloseRequest) boundary.Body {
	s.mtx.Lock()
	r := s.reports[q.ID]
	delete(s.reports, q.ID)
	s.mtx.Unlock()
	if r != nil {
		r.Close()
	}
	return nil
}
