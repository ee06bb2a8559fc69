// Package serve is the engine's end of the boundary to Asterisk's module. The package answers each message of
// the socket with a call of package engine, sends the log lines, and ends the engine on the module's request
// or after the module's end.
//
// Threads: one goroutine reads the socket. Requests about the configuration and requests to open or close
// something run in the order of the socket on a second goroutine, so the module need not wait for answers.
// Every other request may block and runs on its own goroutine. Another goroutine sends log lines.
package serve

import (
	"errors"
	"os"
	"sync"
	"time"

	"reskafka/internal/boundary"
	"reskafka/internal/console"
	"reskafka/internal/engine"
	"reskafka/internal/host"
	"reskafka/internal/ingest"
	"reskafka/internal/memlimit"
)

// Times of the end. All are shorter than the 90 seconds after which systemd kills the rest of a service.
const (
	graceGone      = 2 * time.Second  // for deliveries when the module is gone
	patienceOld    = 5 * time.Second  // for the end of a dead Asterisk's engine: half of the time of a load
	patienceSocket = 5 * time.Second  // until the module closes the socket after stop
	patienceLog    = time.Second      // until the module has read the last log lines
	patienceSignal = 10 * time.Second // until the module ends after SIGTERM
	endLimit       = 75 * time.Second // for the whole end, if a disk hangs: more than the longest flush_timeout_ms
)

// statusHung is the exit status of a process with an end longer than endLimit.
const statusHung = 3

// Server is one run of the engine behind one socket. Create it with New.
type Server struct {
	conn   *boundary.Conn
	ingest *ingest.Door
	log    *lines
	exit   func(status int) // os.Exit
	times  times

	engine *engine.Engine // nil before hello; set by the reading goroutine

	gone     chan struct{} // closed when nothing more is read from the socket
	broken   error         // why the module was refused; set before gone is closed
	stopping chan struct{} // holds a token when stop has begun
	stopped  chan struct{} // holds a token when stop was answered
	ordered  chan request  // requests in the order of the socket
	closing  sync.Once     // of the ingest
	hang     sync.RWMutex  // held for writing by the fault "hang", for ever
	spool    string        // Asterisk's directory for spools; set with engine

	mtx        sync.Mutex // guards deliveries and reports
	areas      *areas
	deliveries map[uint64]*delivery // of subscriptions, by number
	reports    map[uint64]*queue
}

// times are the limits above; tests have shorter ones.
type times struct{ gone, old, socket, signal, end time.Duration }

// orderedLength is the limit of ordered requests in the queue. The module waits for most answers, so requests
// are few; a full queue stops the reading of the socket.
const orderedLength = 1024

// New returns a server of the connection and takes ownership of the connection.
func New(conn *boundary.Conn) *Server {
	return &Server{
		conn: conn, log: &lines{conn: conn}, exit: os.Exit,
		times:    times{graceGone, patienceOld, patienceSocket, patienceSignal, endLimit},
		gone:     make(chan struct{}),
		stopping: make(chan struct{}, 1), stopped: make(chan struct{}, 1), ordered: make(chan request, orderedLength),
		deliveries: map[uint64]*delivery{}, reports: map[uint64]*queue{},
	}
}

// Log returns the logger for Asterisk's log.
func (s *Server) Log() host.Logger { return s.log }

// Run serves the module until the end. It takes ownership of in. The end comes with the socket's end, 5
// seconds after stop, or 10 seconds after a signal: systemd signals Asterisk and the engine at once, and
// Asterisk's last records follow. The error is a *boundary.VersionError for a module of another build, or
// wraps boundary.ErrFormat after a violation of the socket's rules. The process must end after Run returns.
// Called once.
func (s *Server) Run(in *ingest.Door, signals <-chan os.Signal) error {
	s.ingest, s.areas = in, newAreas(in)
	go s.read()
	if s.wait(signals) {
		s.leave()
		return nil
	}
	return s.end()
}

// wait returns at the end, with true if a signal is the only reason.
func (s *Server) wait(signals <-chan os.Signal) (signaled bool) {
	var limit <-chan time.Time
	for {
		select {
		case <-s.gone:
			return false
		case <-limit:
			return true
		case <-signals:
			signals, limit = nil, time.After(s.times.signal)
		case <-s.stopping:
			signals, limit = nil, nil // the module ends in time
		case <-s.stopped:
			return s.awaitClose()
		}
	}
}

// awaitClose waits for the module to close the socket after stop.
func (s *Server) awaitClose() (signaled bool) {
	select {
	case <-s.gone:
	case <-time.After(s.times.socket):
	}
	return false
}

// leave ends the process while Asterisk continues. Gates stay open and unfinished frames stay in shared
// memory for the next engine. Engine.Stop would refuse new records meanwhile, and drop records in memory.
func (s *Server) leave() {
	host.Logf(s.log, host.Notice, "the engine ends on a signal; the next one goes on with all records that are queued")
	s.log.end(patienceLog)
	_ = s.conn.Close()
	<-s.gone
}

// end delivers the module's remaining records and stops the engine. The connection is closed last, because
// the end still writes log lines.
func (s *Server) end() error {
	defer time.AfterFunc(s.times.end, func() { s.exit(statusHung) }).Stop()
	if s.engine != nil { // no longer written: the socket has ended, or stop was answered
		defer s.takeRest().Release()
		s.finish(s.times.gone)
	}
	s.log.end(patienceLog)
	_ = s.conn.Close()
	<-s.gone
	return s.broken
}

// takeRest passes the remaining frames in shared memory to the engine. The engine of the next Asterisk waits
// until the returned lock is released.
func (s *Server) takeRest() (lock *ingest.Succession) {
	lock = ingest.HoldSuccession(s.spool)
	defer host.Guard(s.log, "taking the last records")
	s.ingest.Drain()
	s.engine.TakeRest(s.ingest.Rest())
	return lock
}

// finish stops the engine. A second call waits for the first.
func (s *Server) finish(grace time.Duration) {
	defer host.Guard(s.log, "the end")
	s.engine.Stop(grace)
	s.closing.Do(s.ingest.Close) // not after a panic: slabs may still be used then
}

// read handles the messages of the socket until there are no more.
func (s *Server) read() {
	defer close(s.gone)
	defer close(s.ordered)
	err := s.first()
	if err == nil {
		go s.inOrder()
	}
	for err == nil {
		var f boundary.Frame
		if f, err = s.conn.Read(); err == nil {
			err = s.handle(&f)
		}
	}
	var version *boundary.VersionError
	if errors.As(err, &version) || errors.Is(err, boundary.ErrFormat) {
		s.broken = err
		host.Logf(s.log, host.Error, "%v", err)
	}
}

// first answers the first message, hello.
func (s *Server) first() error {
	f, err := s.conn.Read()
	if err != nil {
		return err
	}
	answer := &boundary.HelloAnswer{Result: boundary.ResultEINVAL, ABI: boundary.ABIVersion, Build: boundary.Build}
	var version *boundary.VersionError
	if err = boundary.CheckPeer(&f); errors.As(err, &version) {
		_ = s.conn.Answer(f.Kind, f.Number, answer)
	}
	if err != nil {
		return err
	}
	var q boundary.HelloRequest
	if err = f.Decode(&q); err != nil {
		return err
	}
	s.start(&q, answer)
	return s.conn.Answer(f.Kind, f.Number, answer)
}

// start brings the engine up and fills in the answer to hello.
func (s *Server) start(q *boundary.HelloRequest, answer *boundary.HelloAnswer) {
	s.spool = q.SpoolDir
	if q.StageFolder == "" { // else the previous engine was the same Asterisk's, and is dead
		ingest.AwaitSuccession(s.spool, s.times.old, func() {
			host.Logf(s.log, host.Notice, "waiting for the engine of an Asterisk that is gone: it sends its last records, at most %v", s.times.old)
		})
	}
	memory := memlimit.Read("")
	s.engine = engine.Start(host.System{
		EntityID: q.EntityID, Name: q.SystemName, Version: q.Version, Hostname: q.Hostname,
		SpoolDir: q.SpoolDir, StageFolder: q.StageFolder, MemoryBytes: memory.Bytes, MemoryBy: memory.By,
	}, s.log)
	s.engine.Arrivals(s.ingest.Drain)
	if err := s.ingest.Start(s.engine.StageFolder(), s.take); err != nil {
		host.Logf(s.log, host.Error, "no records can be taken: %v", err)
	}
	answer.Result = boundary.ResultOK
	answer.StageFolder, answer.StageBytes = s.engine.StageFolder(), uint64(s.engine.SharedMost())
	answer.Commands = commands()
}

// take passes a slab to the engine. The goroutine of the ring calls it.
func (s *Server) take(id uint64, r ingest.Range) {
	defer host.Guard(s.log, "taking records")
	s.hang.RLock()
	defer s.hang.RUnlock()
	s.engine.Take(id, r)
}

// commands lists the commands of the CLI.
func commands() []boundary.Command {
	list := make([]boundary.Command, 0, len(console.Commands))
	for _, c := range console.Commands {
		list = append(list, boundary.Command{Words: c.Words, Summary: c.Summary, Usage: c.Usage, Waits: c.Waits})
	}
	return list
}
