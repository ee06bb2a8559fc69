package brokers

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"reskafka/internal/kafka/consume"
	"reskafka/internal/metrics"
	records "reskafka/test/account"
	"reskafka/test/world"
)

// TestDamagedEngine is the process of the engine under damage. It ends with a report in a file.
func TestDamagedEngine(t *testing.T) {
	brokers, report := os.Getenv("RES_KAFKA_DAMAGED"), os.Getenv("RES_KAFKA_REPORT")
	if brokers == "" {
		t.Skip("this is the engine's process of TestDamage")
	}
	e := &damagedEngine{World: world.New(t, "", t.TempDir(), 10*time.Minute), producers: map[string]*world.Producer{}}
	e.configure(brokers)
	o := e.run()
	text, err := json.Marshal(o)
	if err == nil {
		err = os.WriteFile(report, text, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// damagedEngine is an engine with a producer of every kind and a consumer.
type damagedEngine struct {
	*world.World
	producers map[string]*world.Producer
	consumed  atomic.Int64
	strange   atomic.Pointer[string] // a message never produced
	most      int                    // goroutines
	late      []string               // slow parts, with their state
}

func (e *damagedEngine) configure(brokers string) {
	var conf strings.Builder
	section := func(name string, lines ...string) {
		fmt.Fprintf(&conf, "[%s]\ntype = connection\nclient_id = tested\nbrokers = %s\nreconnect_backoff_ms = 20\n"+
			"reconnect_backoff_max_ms = 200\nsocket_timeout_ms = 1000\nrequest_timeout_ms = 1000\nlinger_ms = 5\n%s\n",
			name, brokers, strings.Join(lines, "\n"))
	}
	for name, lines := range producers {
		section(name, lines...)
	}
	consumer := []string{"group_id = group", "auto_offset_reset = earliest", "session_timeout_ms = 3000"}
	if os.Getenv("RES_KAFKA_DAMAGE_LOG") != "" {
		consumer = append(consumer, "debug = cgrp,consumer,metadata,topic,fetch,broker")
	}
	section("consumer", consumer...)
	if err := e.Configure(conf.String()); err != nil {
		e.Fatal(err)
	}
}

// view is the world with another topic.
func (e *damagedEngine) view(topic string) *world.World {
	view := *e.World
	view.Topic = topic
	return &view
}

// run produces, consumes and creates topics until the answers are intact, and then until everything works.
func (e *damagedEngine) run() (o outcome) {
	for name := range producers {
		p, err := e.view(name).Open(name)
		if err != nil {
			e.Fatal(err)
		}
		e.producers[name] = p
	}
	subscription, err := e.view("feed").Subscribe("consumer", func(m consume.Message) {
		if value := string(m.Value); !strings.HasPrefix(value, "feed ") {
			e.strange.Store(&value)
		}
		e.consumed.Add(1)
	})
	if err != nil {
		e.Fatal(err)
	}
	sound := make(chan struct{})
	go func() {
		_, _ = bufio.NewReader(os.Stdin).ReadString('\n')
		close(sound)
	}()
	numbers := e.load(sound)
	if err := e.heal(numbers); err != nil {
		o.Failure = err.Error()
	}
	subscription.End()
	o.Connections = map[string]account{}
	for name := range producers {
		s, _ := e.Engine.Connection(name)
		a := records.Of(s.Numbers)
		o.Connections[name] = account{
			Put: numbers + 3, Accepted: a.Accepted, Acknowledged: a.Acknowledged, Retried: a.Retried, Dropped: a.GivenUp(),
		}
		o.Refused += s.Numbers.Sum(metrics.ResponsesRefused)
	}
	o.Late = e.late
	o.Consumed, o.Goroutines = int(e.consumed.Load()), e.most
	e.Engine.Stop(0)
	for end := time.Now().Add(5 * time.Second); runtime.NumGoroutine() > 10 && time.Now().Before(end); {
		time.Sleep(10 * time.Millisecond)
	}
	o.Left, o.Memory = runtime.NumGoroutine(), peak()
	lines := e.Log.With()
	if os.Getenv("RES_KAFKA_DAMAGE_LOG") != "" {
		o.Log = e.Log.With("connection consumer")
	} else {
		o.Log = lines[max(len(lines)-20, 0):]
	}
	if o.Left > 20 {
		trace := make([]byte, 64<<10)
		o.Log = append(o.Log, string(trace[:runtime.Stack(trace, true)]))
		o.Failure += fmt.Sprintf(" %d goroutines are left", o.Left)
	}
	return o
}

// load produces some records every 20 ms on each connection, and creates topics meanwhile, until the answers
// are intact. It returns the number of records for each connection.
func (e *damagedEngine) load(sound <-chan struct{}) int {
	var all sync.WaitGroup
	all.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-sound:
				return
			case <-time.After(200 * time.Millisecond):
				_ = e.Engine.EnsureTopic("all", fmt.Sprintf("made-%d", i), 1, 1, true)
				ctx, cancel := context.WithTimeout(e.Ctx, time.Second)
				_ = e.Engine.TestSend(ctx, "all", "sent", "x", nil)
				cancel()
			}
		}
	})
	defer all.Wait()
	number := 0
	for {
		select {
		case <-sound:
			return number
		case <-time.After(20 * time.Millisecond):
			number = e.put(number, 3)
			e.most = max(e.most, runtime.NumGoroutine())
		}
	}
}

// put produces n more records on each connection.
func (e *damagedEngine) put(number, n int) int {
	for name, p := range e.producers {
		var values []string
		for i := range n {
			values = append(values, fmt.Sprintf("%s %06d", name, number+i))
		}
		p.Put(values...)
	}
	return number + n
}

// heal checks that everything works with intact answers.
func (e *damagedEngine) heal(number int) error {
	ctx, cancel := context.WithTimeout(e.Ctx, healing-20*time.Second)
	defer cancel()
	e.Ctx = ctx
	before := e.consumed.Load()
	e.put(number, 3)
	for name, p := range e.producers {
		settled := func() bool {
			_, _ = e.Engine.RetrySpool(name, "") // dead letters because of damage
			s, _ := e.Engine.Connection(name)
			return p.HeldFrames.Load() == 0 && s.Numbers.Sum(metrics.RecordsWaiting, metrics.RecordsSending, metrics.RecordsSpooled) == 0
		}
		if err := e.until("the records of "+name+" are settled", settled); err != nil {
			return err
		}
	}
	if err := e.until("messages are consumed", func() bool { return e.consumed.Load() > before }); err != nil {
		return err
	}
	if value := e.strange.Load(); value != nil {
		return fmt.Errorf("a message that nobody produced is delivered: %q", *value)
	}
	return e.until("a topic is made", func() bool { return e.Engine.EnsureTopic("all", "made", 1, 1, true) == nil })
}

// until waits for a state and, on failure, reports the state of the connections.
func (e *damagedEngine) until(what string, so func() bool) error {
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	for !so() {
		select {
		case <-time.After(50 * time.Millisecond):
		case <-late.C:
			e.late = append(e.late, what+":\n"+e.shown())
		case <-e.Ctx.Done():
			return fmt.Errorf("not so in time: %s\n%s", what, e.shown())
		}
	}
	return nil
}

// shown returns the console's view of the connections.
func (e *damagedEngine) shown() string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(producers)) {
		_, state, _ := strings.Cut((&Bench{World: e.World}).Show(name), "Brokers in use:")
		text.WriteString(name + ":" + state)
	}
	return text.String()
}

// peak returns the largest resident size of this process.
func peak() int {
	text, err := os.ReadFile("/proc/self/status")
	if err != nil {
		return 0
	}
	_, text, _ = bytes.Cut(text, []byte("VmHWM:"))
	kilobytes := 0
	_, _ = fmt.Sscan(string(text), &kilobytes)
	return kilobytes << 10
}
