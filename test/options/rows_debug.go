package options

import (
	"slices"
	"strings"

	"reskafka/internal/config"
	"reskafka/internal/kafka/consume"
	"reskafka/test/world"
)

// silent are the contexts without a counterpart here.
var silent = []string{"interceptor", "plugin", "mock", "telemetry"}

// debugRows has a row for each of librdkafka's contexts.
func debugRows() []Row {
	var contexts []string
	for _, section := range config.KafkaFile.Sections {
		for _, o := range section.Options {
			if o.Name == "debug" {
				for _, word := range o.Words {
					contexts = append(contexts, word.Text)
				}
			}
		}
	}
	var rows []Row
	for _, context := range contexts {
		r := Row{
			Option: "debug", Value: context, With: []string{"group_id = $group", "auto_offset_reset = earliest", "enable_idempotence = yes"},
			Effect: "lines of this context only", Where: "in the debug log",
			holds: func(w *World) error { return w.debugLines(context, contexts) },
		}
		switch {
		case context == "all":
			r.Effect = "lines of every context"
		case slices.Contains(silent, context):
			r.Effect = "the client has no such context: a warning at load"
			r.Where = "in the log"
			r.holds = func(w *World) error {
				if err := w.configure(); err != nil {
					return err
				}
				if len(w.Log.With("warning: ", "debug = "+context, "nothing to tell")) == 0 {
					return unseenf("no warning: %q", w.Log.With())
				}
				return nil
			}
		}
		rows = append(rows, r)
	}
	return rows
}

// debugLines uses every part of a connection and compares the contexts in the debug log.
func (w *World) debugLines(context string, contexts []string) error {
	if _, err := w.delivered("one"); err != nil {
		return err
	}
	messages := make(chan string, 10)
	sub, err := w.subscribe("tested", func(m consume.Message) { messages <- string(m.Value) })
	if err != nil {
		return err
	}
	if _, err := world.Await(w.World, messages); err != nil {
		return err
	}
	sub.End()
	if err := w.Engine.EnsureTopic("tested", w.Topic+"-2", 1, 1, true); err != nil {
		return err
	}
	found := map[string]bool{}
	for _, line := range w.Log.With("debug: connection tested: ") {
		name, _, _ := strings.Cut(strings.TrimPrefix(line, "debug: connection tested: "), ":")
		if !slices.Contains(contexts, name) {
			return unseenf("a line without a context: %s", line)
		}
		if name != context && context != "all" {
			return unseenf("a line of context %s: %s", name, line)
		}
		found[name] = true
	}
	for _, name := range contexts {
		wanted := name == context || context == "all" && !slices.Contains(silent, name)
		if wanted && name != "all" && !found[name] {
			return unseenf("no line of context %s, there are %d others", name, len(w.Log.With("debug: connection tested: ")))
		}
	}
	return nil
}
