package serve

import (
	"bytes"
	"runtime"

	"reskafka/internal/boundary"
	"reskafka/internal/engine"
	"reskafka/internal/host"
)

// fault makes the engine fail, for tests of the supervision.
func fault(s *Server, q *boundary.FaultRequest) boundary.Body {
	switch q.How {
	case "panic": // in a request: recovered; a nil pointer is a fault by signal
		var none *engine.Engine
		none.Stop(0)
	case "crash": // uncaught
		go func() { panic("a fault that a test asked for") }()
		select {}
	case "exit":
		s.exit(statusFault)
	case "hang": // no record is taken and no ping answered
		s.hang.Lock()
		select {}
	case "memory":
		for kept := [][]byte(nil); ; {
			kept = append(kept, bytes.Repeat([]byte{1}, 1<<20))
			runtime.KeepAlive(kept)
		}
	}
	host.Logf(s.log, host.Error, "there is no fault '%s'", q.How)
	return &boundary.FaultAnswer{Result: boundary.ResultEINVAL}
}

// statusFault is the exit status of the fault "exit".
const statusFault = 7
