package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"syscall"

	"reskafka/test/pbx"
)

// frozen is ours while the broker does not answer. Records about calls are kept on disk, as is the default.
const frozen variant = "res_kafka, broker frozen"

// idleBackend is an Asterisk without our modules, with an empty backend for call records: its extra cost is
// Asterisk's own, for any receiver of the records.
const idleBackend variant = "a CDR backend that does nothing"

// The calls of a round. An Asterisk with the module and one without run side by side and are called in short
// turns, so a change of the machine affects both; each pair of turns yields a ratio.
const (
	callPairs      = 5
	callsPerSecond = 200 // of the caller with the measured time to the first audio
	callers        = 8   // concurrent callers that saturate the PBX
	callSeconds    = 0.3 // of each
	// callTolerance is the largest ratio to the time without the module that counts as equal. The control,
	// with two Asterisks without the module, shows the measurement's own noise.
	callTolerance = 1.05
)

const callsConf = `[calls]
exten => s,1,Answer()
 same => n,Echo()
`

// callRows measure the cost of publication for a caller. The compared Asterisk creates call records too,
// without a destination.
func callRows() []row {
	var metrics []metric
	for _, of := range []struct {
		variant variant
		label   string
		goal    goal
	}{
		{disk, "", goal{absoluteAtMost, callTolerance}},
		{frozen, ", broker frozen", goal{absoluteAtMost, callTolerance}},
		{idleBackend, ", a CDR backend that does nothing", goal{}},
		{bare, ", control: twice without the module", goal{}},
	} {
		own := []metric{
			{key: "audio_ratio", label: "time to the first audio / without the module", headline: true, goal: of.goal},
			{key: "call_ratio", label: "time for a call flat out / without the module", headline: true, goal: of.goal},
			{key: "cpu_ratio", label: "CPU for a call flat out / without the module", headline: true},
		}
		if of.variant != bare {
			own = append(own,
				metric{key: "audio_us", label: "time to the first audio, median", unit: "ms", scale: 1e-3, against: bare},
				metric{key: "audio_p99_us", label: "time to the first audio, p99", unit: "ms", scale: 1e-3, against: bare},
				metric{key: "per_second", label: "calls", unit: "1/s", against: bare, more: true},
				metric{key: "cpu_us_each", label: "CPU for a call flat out", unit: "µs", against: bare})
		}
		for _, m := range own {
			m.of, m.label = of.variant, m.label+of.label
			metrics = append(metrics, m)
		}
	}
	return []row{{
		name: "calls", about: fmt.Sprintf("%d calls a second from one caller, then the maximum of %d callers, with a record of each call", callsPerSecond, callers),
		variants: []variant{disk, frozen, idleBackend, bare}, measure: measureCalls, metrics: metrics,
	}}
}

// callBroker returns the broker of a round: the shared broker, or a separate one to freeze.
func callBroker(r *round, pid *int) *broker {
	if r.variant != frozen {
		return r.bench.swallow
	}
	return &broker{start: func(ctx context.Context) (endpoints, func() error, error) {
		b, err := pbx.StartBroker(ctx, pbx.BrokerConfig{
			Command: filepath.Join(r.bench.build, "reskafka"), Dir: r.dir + "-broker", Partitions: partitions, Swallow: true,
		})
		if err != nil {
			return endpoints{}, nil, err
		}
		*pid = b.PID()
		return endpoints{near: b.Address}, b.Stop, nil
	}}
}

// measureCalls places calls in turn and then checks that each call has a record.
func measureCalls(ctx context.Context, r *round) (err error) {
	var pid int
	b := callBroker(r, &pid)
	address, err := b.up(ctx)
	if err != nil {
		return err
	}
	if r.variant == frozen {
		defer func() {
			thaw(pid)
			err = errors.Join(err, b.down(), os.RemoveAll(r.dir+"-broker"))
		}()
	}
	topic := r.topic("calls")
	if err := b.create(ctx, []string{topic}); err != nil {
		return err
	}
	without := &round{bench: r.bench, row: r.row, variant: bare, dir: r.dir + "-without"}
	defer func() { err = errors.Join(err, without.end()) }()
	if err := without.start(ctx, callLaunch(bare, address, topic)); err != nil {
		return err
	}
	if err := r.start(ctx, callLaunch(r.variant, address, topic)); err != nil {
		return err
	}
	with, other := &called{round: r}, &called{round: without}
	for _, c := range []*called{with, other} {
		if _, err := c.place(callers, 0, callSeconds); err != nil {
			return fmt.Errorf("warming up: %w", err)
		}
	}
	if err := with.published(ctx, b, topic); err != nil {
		return fmt.Errorf("warming up: %w", err)
	}
	if r.variant == frozen {
		if err := syscall.Kill(pid, syscall.SIGSTOP); err != nil {
			return fmt.Errorf("freezing the broker: %w", err)
		}
	}
	if err := inTurn(with, other, max(1, int(callPairs*r.bench.share))); err != nil {
		return err
	}
	thaw(pid)
	r.values = with.medians(other)
	return with.published(ctx, b, topic)
}

// called is a called Asterisk with the values of its turns.
type called struct {
	*round
	calls float64 // placed up to now
	turns []values
}

// inTurn calls two in pairs of turns. The first of a pair is the second of the next.
func inTurn(with, other *called, pairs int) error {
	for pair := range pairs {
		order := []*called{with, other}
		if pair%2 == 1 {
			slices.Reverse(order)
		}
		for _, c := range order {
			if err := c.turn(); err != nil {
				return err
			}
		}
	}
	return nil
}

// turn measures one caller's time to the first audio, then several callers flat out.
func (c *called) turn() error {
	one, err := c.place(1, callsPerSecond, callSeconds)
	if err != nil {
		return err
	}
	many, err := c.place(callers, 0, callSeconds)
	if err != nil {
		return err
	}
	c.turns = append(c.turns, values{
		"audio_us": one["audio_p50_us"], "audio_p99_us": one["audio_p99_us"], "per_second": many["per_second"],
		"cpu_us_each": many["cpu_us"] / many["calls"],
	})
	return nil
}

// medians returns the medians of the turns, and of the ratios to the other's turns, pair by pair.
func (c *called) medians(other *called) values {
	found := values{}
	for key := range c.turns[0] {
		var all []float64
		for _, turn := range c.turns {
			all = append(all, turn[key])
		}
		found[key] = median(all)
	}
	var audio, call, cpu []float64
	for i, turn := range c.turns {
		audio = append(audio, ratio(turn["audio_us"], other.turns[i]["audio_us"]))
		call = append(call, ratio(other.turns[i]["per_second"], turn["per_second"]))
		cpu = append(cpu, ratio(turn["cpu_us_each"], other.turns[i]["cpu_us_each"]))
	}
	found["audio_ratio"], found["call_ratio"], found["cpu_ratio"] = median(audio), median(call), median(cpu)
	return found
}

// thaw continues a possibly frozen broker, to let it end.
func thaw(pid int) {
	if pid > 0 {
		_ = syscall.Kill(pid, syscall.SIGCONT)
	}
}

// callLaunch starts a callable Asterisk, with the publishing module unless the variant has none.
func callLaunch(v variant, address, topic string) launch {
	l := launch{brokers: address, modules: []string{"call_probe"}, files: map[string]string{
		"extensions.conf": callsConf,
		"cdr.conf":        "[general]\nenable = yes\nunanswered = yes\n",
	}}
	switch v {
	case bare:
	case idleBackend:
		l.modules = append(l.modules, "cdr_nothing")
	default:
		l.modules = append(l.modules, "cdr_kafka")
		l.files["cdr_kafka.conf"] = fmt.Sprintf("[global]\nconnection = %s\ntopic = %s\nkey = linkedid\n", connection, topic)
	}
	return l
}

// place places calls. A call without audio is a failure, not a number.
func (c *called) place(callers, perSecond int, seconds float64) (values, error) {
	command := fmt.Sprintf("call load s@calls/n %d %d %g", callers, perSecond, seconds)
	engine := c.asterisk.EnginePID()
	before, err := usedBy(engine)
	if err != nil {
		return nil, err
	}
	text, err := c.asterisk.CLI(command)
	if err != nil {
		return nil, err
	}
	after, err := usedBy(engine)
	if err != nil {
		return nil, err
	}
	found, err := parse(text)
	if err == nil && (found["failed"] > 0 || found["calls"] == 0) {
		err = fmt.Errorf("%.0f of %.0f calls had no audio", found["failed"], found["failed"]+found["calls"])
	}
	if err != nil {
		return nil, fmt.Errorf("%q: %w\n%s", command, err, lastLines(c.asterisk.LogLines()))
	}
	found["cpu_us"] += float64((after.cpu - before.cpu).Microseconds())
	c.calls += found["calls"]
	return found, nil
}

// published waits for a record of each call, if there is a publishing module.
func (c *called) published(ctx context.Context, b *broker, topic string) error {
	if c.variant == bare || c.variant == idleBackend {
		return nil
	}
	_, err := b.await(ctx, []string{topic}, func() int64 { return int64(c.calls) })
	return err
}
