// Package engine is res_kafka without Asterisk: it owns the configuration, the connections and the event sources, and
// everything that the messages of boundary/messages.h ask for is a method here. It knows no C and no Asterisk type.
//
// Threads: every method may be called from any goroutine or thread. None of them waits for the network but TestSend
// and Stop, which say for how long.
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

// logEvery is how often one cause may write a line to the log at first; internal/throttle makes it rarer while it goes on.
const logEvery = 30 * time.Second

// Engine is one run of the engine, from the module's load to its unload. Create it with Start.
type Engine struct {
	log     host.Logger
	system  host.System
	refused *throttle.Throttle // lines about calls to produce that were refused
	dropped *throttle.Throttle // lines about accepted records that were dropped
	spools  *throttle.Throttle // lines about spools and clients that cannot be used

	heldBack chan struct{} // holds a token when refused or dropped have come to hold something back

	encodePanic sync.Once // the log has the first one

	arrivals func() // see Arrivals

	// configuring is held by whoever opens connections or changes what is configured: what a reload finds open is what it
	// changes, and nothing is opened any more once Stop has had it. Never held while waiting for the network.
	configuring sync.Mutex

	// living is held for reading by what comes from the pump, and for writing to set ended: none of it is under way
	// afterwards and what comes later has no effect.
	living sync.RWMutex
	ended  bool
	over   chan struct{} // closed when Stop has finished
	rest   chan struct{} // closed when the goroutine of Start is to end
	rested chan struct{} // closed when it has

	life       context.Context // done when Stop begins
	endLife    context.CancelFunc
	background sync.WaitGroup // what goes on when a call has returned
	departures *consume.Departures

	mtx           sync.Mutex // guards what follows; taken after configuring, never held over a call out
	config        *config.Kafka
	byName        map[string]*connection
	subscriptions map[uint64]*subscription
	reports       map[uint64]*Reports
	stopped       bool

	connections atomic.Pointer[[]*connection] // only ever grows
	producers   atomic.Pointer[[]*connection] // by the number of their gate; nil = none. Read without the mutex on the way of records
	sources     atomic.Pointer[[]openSource]  // by the lower half of their numbers - 1; an element is replaced when its source is reloaded

	staging   staging
	producing atomic.Int64 // connections that have an outbox

	clock *spool.Clock // that spools go by; nil = this machine's. Tests set it before the first connection is opened.
}

// How long a stop lets members leave their groups, brokers that hang included. It is over while records are delivered and
// clients close.
const leaveLimit = 500 * time.Millisecond

// Start brings up an engine without any configuration. Stop ends the goroutine that it starts.
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

// maxNumber is the highest number of a producer, a subscription, a queue of reports or a source that the engine accepts. The caller
// chooses the numbers, so that they survive an engine that was replaced; the limit bounds the tables that they index.
const maxNumber = 1 << 16

// Errors that requests of the module are answered with.
var (
	ErrNotFound = fmt.Errorf("not found")
	ErrDisabled = fmt.Errorf("disabled")
	ErrInvalid  = fmt.Errorf("invalid")
	ErrStopped  = fmt.Errorf("stopped")
)

// Configure puts a configuration in force. The first one may have errors: the connections that it can use serve, the others
// are left out. With errors in a later one nothing changes. Connections whose options are the same go on as they are; what
// would keep a changed one from having a client is found before anything is touched. Every problem is logged; the last line
// says what follows.
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
	e.adoptSpools() // before adopt: what is on disk is older
	e.adopt()
	return nil
}

// judge says whether a configuration that was read may be put in force, and logs what follows from its errors.
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

// report writes the problems of a configuration file to the log, each with its severity.
func (e *Engine) report(problems []config.Problem) {
	for _, p := range problems {
		level := host.Warning
		if p.Severity == config.Error {
			level = host.Error
		}
		host.Logf(e.log, level, "%s", p)
	}
}

// connection finds one that the configuration in force has, whatever the case of its name.
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

// whyNone says why the configuration in force has no connection of that name.
func (e *Engine) whyNone(name string) string {
	if why, ok := e.LeftOut(name); ok {
		return leftOut + why
	}
	return unknown
}

// byID returns the connection whose producer was opened with this number, or nil.
func (e *Engine) byID(id uint64) *connection {
	list := *e.producers.Load()
	if id >= uint64(len(list)) {
		return nil
	}
	return list[id]
}

// number binds a connection to the number of its gate. configuring must be held.
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

// isStopped says whether Stop has been called.
func (e *Engine) isStopped() bool {
	e.mtx.Lock()
	defer e.mtx.Unlock()
	return e.stopped
}

// OpenProducer binds a gate and its number, which Take gets, to the connection of that name. It sets the gate's limits
// and opens it. A connection has one gate: a second call for it brings the same gate and number. OpenProducer never
// touches the network. Errors: ErrNotFound, ErrDisabled, ErrInvalid (no client can be made, or another number), each
// logged; ErrStopped.
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
		host.Logf(e.log, host.Error, "no producer for connection '%s': %v", name, err)
		return ErrInvalid
	}
	e.adopt() // frames of killed runs precede those of the gate, which the module hands over after the answer
	c.bind(gate)
	return nil
}

// Stop delivers what is waiting for at most grace, and what is in memory only for flush_timeout_ms; meanwhile what must not
// be lost is written to disk. Then it closes every client, which takes about 0.3 seconds at most, and counts and logs
// what could not be delivered. Afterwards nothing of the host and no gate is used any more, and every other method answers
// ErrStopped or does nothing. A second call waits for the first.
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

// listSubscriptions gives those there are now.
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
