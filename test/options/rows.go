package options

import (
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"
	"reskafka/test/world"
)

// Row is one value of one option, with the observation of its effect.
type Row struct {
	Option string
	Value  string
	Case   string   // distinguishes rows of the same value
	With   []string // further lines of the section, there whether or not the option is

	// Instead replaces the option's lines for the observation without the effect; nil = none, so the default
	// is in force.
	Instead []string
	Why     string // of Instead, for the document

	General bool // an option of [general]

	// Effect is the observed effect, and Where its place: on the wire, in the engine's or the broker's log,
	// or in behaviour.
	Effect, Where string
	// Beyond names tests elsewhere for the effect's part outside the engine.
	Beyond string

	// Apache: the observation is made with Apache Kafka too. Logged is a regular expression for a line in its
	// log of requests then.
	Apache bool
	Logged string

	prepare func(w *World) []kfake.Opt // makes the objects of the values and returns the embedded broker's options
	holds   func(w *World) error       // nil for a seen effect, *unseen for a missing one
}

// Name is the row's in a test's name.
func (r *Row) Name() string {
	name := strings.ReplaceAll(r.Option+"="+r.Value, "/", "-")
	if r.Case != "" {
		name += "," + r.Case
	}
	return name
}

// Rows is the table of all options.
var Rows = join(networkRows, securityRows, producerRows, spoolRows, consumerRows, debugRows())

func join(parts ...[]Row) []Row {
	var all []Row
	for _, part := range parts {
		all = append(all, part...)
	}
	return all
}

// observe makes the row's observation once. makeBroker starts or returns the broker; given: the file has the
// option's own line.
func (r *Row) observe(t testing.TB, makeBroker MakeBroker, topic string, given bool) error {
	vars := map[string]string{"group": "group-of-" + topic}
	draft := &World{World: &world.World{TB: t}, vars: vars} // there is no broker yet
	var options []kfake.Opt
	if r.prepare != nil {
		options = r.prepare(draft)
	}
	broker := makeBroker(t, topic, options...)
	w := newWorld(t, broker, topic)
	w.vars, w.shown = vars, draft.shown
	own := r.Instead
	if given {
		own = []string{r.Option + " = " + r.Value}
	}
	if r.General {
		w.general = own
		own = nil
	}
	for _, line := range []string{"type = connection", "brokers = $brokers", "client_id = tested"} {
		if name, _, _ := strings.Cut(line, " "); name != r.Option {
			w.tested = append(w.tested, line)
		}
	}
	w.tested = append(append(w.tested, r.With...), own...)
	err := r.holds(w)
	if err == nil && given && r.Logged != "" && broker.Logged != nil {
		err = broker.Logged(w.Ctx, r.Logged)
	}
	return err
}

// topics numbers the topics, so rows can share a broker.
var topics atomic.Int64

// Check verifies that the row's effect occurs with the option and not without.
func (r *Row) Check(t *testing.T, makeBroker MakeBroker, parallel bool) {
	for _, given := range []bool{true, false} {
		name := map[bool]string{true: "given", false: "ignored"}[given]
		t.Run(name, func(t *testing.T) {
			if parallel {
				t.Parallel()
			}
			topic := fmt.Sprintf("topic-%s-%s-%d", name, r.Option, topics.Add(1))
			err := r.observe(t, makeBroker, topic, given)
			switch {
			case given && err != nil:
				t.Errorf("%s = %s: %v", r.Option, r.Value, err)
			case given:
			case err == nil:
				t.Errorf("the effect of %s = %s is seen without it: this observation proves nothing", r.Option, r.Value)
			case !isUnseen(err):
				t.Errorf("without %s = %s: %v", r.Option, r.Value, err)
			default:
				t.Logf("without it: %v", err)
			}
		})
	}
}
