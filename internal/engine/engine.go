// Package engine is res_kafka without Asterisk. The package owns the configuration, the connections and the
// event sources, and has a method for each message of boundary/messages.h. No C and no Asterisk type occurs
// here.
//
// Threads: every method is safe for any goroutine or thread. Only TestSend and Stop wait for the network, for
// a documented time.
package engine

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/kafka/consume"
	"reskafka/internal/spool"
	"reskafka/internal/throttle"
)

// logEvery is the first interval between two log lines of one cause; internal/throttle lengthens the interval
// while the cause lasts.
const logEvery = 30 * time.Second

// Engine is one run of the engine, from the module's load to the unload. Create an Engine with Start.
type Engine struct {
	log     host.Logger
	system  host.System
	refused *throttle.Throttle // lines about refused calls to produce
	dropped *throttle.Throttle // lines about dropped records
	spools  *throttle.Throttle // lines about unusable spools and clients

	heldBack chan struct{} // holds a token when refused or dropped have come to hold something back

	encodePanic sync.Once // the log has the first panic

	arrivals func() // see Arrivals

	// configuring is held to open connections and to change the configuration: a reload changes every open
	// connection, and after Stop's turn nothing opens. Not held during waits for the network.
	configuring sync.Mutex

	// living is held for reading by calls of the pump, and for writing to set ended. No call runs after that,
	// and later calls have no effect.
	living sync.RWMutex
	ended  bool
	over   chan struct{} // closed when Stop has finished
	rest   chan struct{} // closed when the goroutine of Start is to end
	rested chan struct{} // closed at the end

	life       context.Context // done when Stop begins
	endLife    context.CancelFunc
	background sync.WaitGroup // background work of finished calls
	departures *consume.Departures

	mtx           sync.Mutex // guards the next fields; taken after configuring, not held during calls to other packages
	config        *config.Kafka
	byName        map[string]*connection
	subscriptions map[uint64]*subscription
	reports       map[uint64]*Reports
	stopped       bool

	connections atomic.Pointer[[]*connection] // only ever grows
	producers   atomic.Pointer[[]*connection] // by gate number; nil = none. Records are taken without the mutex
	sources     atomic.Pointer[[]openSource]  // by the lower half of the number - 1; a reload replaces an element

	staging   staging
	producing atomic.Int64 // connections with an outbox

	clock *spool.Clock // the clock of spools; nil = this machine's. Tests set it before the first connection.
}

// Limit for the members to leave their groups at a stop, with hanging brokers too; in parallel with the
// delivery of records and the close of clients.
const leaveLimit = 500 * time.Millisecond

// Start starts an engine without a configuration and one goroutine. Stop ends the goroutine.
func Start(system host.System, log host.Logger) *Engine {
	e := &Engine{
		log: log, system: system, arrivals: func() {},
		refused: throttle.New(logEvery, time.Now),
		dropped: throttle.New(logEvery, time.Now),
		spools:  throttle.New(logEvery, time.Now),

		heldBack: make(chan struct{}, 1),
		over:     make(chan struct{}),
		rest:     make(chan struct{}),
		rested:   make(chan struct{}),
		byName:   map[string]*connection{},

		subscriptions: map[uint64]*subscription{},
		reports:       map[uint64]*Reports{},
		departures:    consume.NewDepartures(),
	}
	e.life, e.endLife = context.WithCancel(context.Background())
	e.connections.Store(&[]*connection{})
	e.producers.Store(&[]*connection{})
	e.sources.Store(&[]openSource{})
	e.limitHeap()
	e.openStaging()
	go e.tellRestNowAndThen()
	return e
}

// maxNumber is the highest accepted number of a producer, a subscription, a queue of reports or a source. The
// caller chooses the numbers, so numbers survive a restart of the engine; maxNumber limits the tables.
const maxNumber = 1 << 16

// Errors in answers to the module's requests.
var (
	ErrNotFound = fmt.Errorf("not found")
	ErrDisabled = fmt.Errorf("disabled")
	ErrInvalid  = fmt.Errorf("invalid")
	ErrStopped  = fmt.Errorf("stopped")
)

// Configure puts a configuration in force. The first configuration may have errors: valid connections serve,
// the others are left out. An error in a later configuration prevents every change. Connections with the same
// options continue as before; obstacles to a changed connection's client are found before any change. Every
// problem is logged; the last line names the consequence.
func (e *Engine) Configure(entries []config.Entry) error {
	e.configuring.Lock()
	defer e.configuring.Unlock()
	if e.isStopped() {
		return ErrStopped
	}

	parsed, problems := config.ParseKafka(entries)
	e.report(problems)
	if err := e.judge(parsed, config.HasErrors(problems)); err != nil {
		return err
	}
	wanted := map[string]*config.Connection{}
	if parsed.Enabled {
		for _, c := range parsed.Connections {
			wanted[config.NameKey(c.Name)] = c
		}
	}

	e.mtx.Lock()
	known := make([]*connection, 0, len(e.byName))
	for _, c := range e.byName {
		known = append(known, c)
	}
	e.mtx.Unlock()

	changes, failed := prepare(known, wanted)
	if failed != nil {
		for _, err := range failed {
			host.Logf(e.log, host.Error, "kafka.conf: %v; nothing has been changed", err)
		}
		return ErrInvalid
	}
	for _, change := range changes {
		change.apply()
	}
	for _, s := range e.listSubscriptions() {
		s.change(wanted[config.NameKey(s.connection.name)])
	}

	e.mtx.Lock()
	e.config = parsed
	for key, c := range wanted {
		if e.byName[key] == nil {
			e.add(c)
		}
	}
	e.mtx.Unlock()
	e.logMemory(wanted)
	e.findLeftovers()
	e.adoptSpools() // before adopt: records on disk are older
	e.adopt()
	return nil
}

// judge decides whether a configuration may be put in force, and logs the consequence of errors.
func (e *Engine) judge(parsed *config.Kafka, errors bool) error {
	e.mtx.Lock()
	first := e.config == nil
	e.mtx.Unlock()
	if first {
		for _, l := range parsed.LeftOut {
			if parsed.Enabled && parsed.Usable() {
				host.Logf(e.log, host.Error, "connection '%s' is left out, the others serve: %s", l.Name, l.Why)
			}
		}
	}
	if !parsed.Usable() {
		host.Logf(e.log, host.Error, "%s: no connection can be used; a connection is a section with type = connection, enabled = no in [general] wants none",
			config.KafkaFile.Name)
	} else if !first && errors {
		host.Logf(e.log, host.Error, "%s has errors, so nothing of it is used: what ran before goes on unchanged", config.KafkaFile.Name)
	}
	if !parsed.Usable() || !first && errors {
		return ErrInvalid
	}
	return nil
}

// add makes a connection known. The mutex is held.
func (e *Engine) add(settings *config.Connection) {
	list := *e.connections.Load()
	c := &connection{engine: e, name: settings.Name}
	c.gate.Store(&Gate{})
	c.settings.Store(settings)
	e.byName[config.NameKey(c.name)] = c
	list = append(list[:len(list):len(list)], c)
	e.connections.Store(&list)
}

// report logs the problems of a configuration file, each with a severity.
func (e *Engine) report(problems []config.Problem) {
	for _, p := range problems {
		level := host.Warning
		if p.Severity == config.Error {
			level = host.Error
		}
		host.Logf(e.log, level, "%s", p)
	}
}

// connection finds a connection of the present configuration; the case of name is ignored.
func (e *Engine) connection(name string) (*connection, error) {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	switch c := e.byName[config.NameKey(name)]; {
	case e.stopped:
		return nil, ErrStopped
	case e.config != nil && !e.config.Enabled:
		return nil, ErrDisabled
	case c == nil || c.settings.Load() == nil:
		return nil, ErrNotFound
	default:
		return c, nil
	}
}

// whyNone returns the reason for a missing connection.
func (e *Engine) whyNone(name string) string {
	if why, ok := e.LeftOut(name); ok {
		return leftOut + why
	}
	return unknown
}

// byID returns the connection of an opened producer's number, or nil.
func (e *Engine) byID(id uint64) *connection {
	list := *e.producers.Load()
	if id >= uint64(len(list)) {
		return nil
	}
	return list[id]
}

// number binds a connection to the number of the gate. Caller must hold configuring.
func (e *Engine) number(c *connection, id uint64) error {
	list := *e.producers.Load()
	switch known := e.byID(id); {
	case id == 0 || id > maxNumber:
		return fmt.Errorf("its number %d is not one from 1 to %d", id, maxNumber)
	case known == c:
		return nil
	case known != nil:
		return fmt.Errorf("its number %d is that of connection '%s'", id, known.name)
	case c.id != 0:
		return fmt.Errorf("it has number %d already, and cannot get %d", c.id, id)
	}
	grown := make([]*connection, max(uint64(len(list)), id+1))
	copy(grown, list)
	grown[id], c.id = c, id
	e.producers.Store(&grown)
	return nil
}

// isStopped reports whether Stop has been called.
func (e *Engine) isStopped() bool {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	return e.stopped
}

// OpenProducer binds a gate and a number, for Take, to the named connection, sets the gate's limits and opens
// the gate. A connection has one gate: a second call must have the same gate and number. OpenProducer never
// touches the network. Errors: ErrNotFound, ErrDisabled, ErrInvalid (no possible client, or another number),
// each logged; ErrStopped.
func (e *Engine) OpenProducer(name string, id uint64, gate *Gate) error {
	e.configuring.Lock()
	defer e.configuring.Unlock()
	c, err := e.connection(name)
	switch err {
	case nil:
	case ErrStopped:
		return err
	case ErrDisabled:
		host.Logf(e.log, host.Error, "no producer for connection '%s': %s", name, disabled)
		return err
	default:
		host.Logf(e.log, host.Error, "no producer for connection '%s': %s", name, e.whyNone(name))
		return err
	}
	c.stored.Store(gate) // before records on disk are sent
	if err = c.open(); err == nil {
		err = e.number(c, id)
	}
	if err != nil {
		if c.refusal != err.Error() {
			c.refusal = err.Error()
			host.Logf(e.log, host.Error, "no producer for connection '%s': %v", name, err)
		}
		return ErrInvalid
	}
	if c.refusal != "" {
		c.refusal = ""
		host.Logf(e.log, host.Notice, "connection '%s' has a producer again", name)
	}
	e.adopt() // frames of killed runs come before the gate's frames; the module passes those after the answer
	c.bind(gate)
	return nil
}

// Stop delivers waiting records for at most grace, and records in memory only for flush_timeout_ms; meanwhile
// durable records are written to disk. Then Stop closes every client, in about 0.3 seconds at most, and
// counts and logs the undelivered records. After Stop the engine uses nothing of the host and no gate; every
// other method returns ErrStopped or does nothing. A second call waits for the first.
func (e *Engine) Stop(grace time.Duration) {
	e.configuring.Lock()
	e.mtx.Lock()
	already := e.stopped
	e.stopped = true
	e.mtx.Unlock()
	e.configuring.Unlock()
	if already {
		<-e.over
		return
	}
	defer close(e.over)

	e.endLife()
	for _, s := range e.listSubscriptions() {
		e.background.Go(func() {
			defer host.Guard(e.log, "ending a subscription")
			s.endWithin(leaveLimit)
		})
	}
	e.each(func(c *connection) { c.drain(grace) })
	e.background.Wait()
	e.departures.End()
	e.living.Lock()
	e.ended = true
	e.living.Unlock()
	e.each((*connection).close)
	e.endReports()
	close(e.rest)
	<-e.rested
	e.closeStaging()
}

// listSubscriptions returns the present subscriptions.
func (e *Engine) listSubscriptions() []*subscription {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	return slices.Collect(maps.Values(e.subscriptions))
}

// each does something to all connections at once and waits for the last.
func (e *Engine) each(do func(*connection)) {
	var all sync.WaitGroup
	for _, c := range *e.connections.Load() {
		all.Go(func() {
			defer host.Guard(e.log, "stopping connection "+c.name)
			do(c)
		})
	}
	all.Wait()
}
