package main

import (
	"strings"
	"testing"
)

// replay uses a section of kafka.conf like the module: with a name in any case, once or twice, and only if
// the section can produce.
func TestSpoolReplay_SectionOfKafkaConf_AsTheModuleReadsIt(t *testing.T) {
	const section = "[My-Kafka]\ntype = connection\nbrokers = kafka1\n"
	for name, c := range map[string]struct {
		text, connection, brokers, failure string
	}{
		"another case":     {section, "MY-kafka", "kafka1", ""},
		"twice":            {section + "[my-kafka]\nbrokers = kafka2\n", "my-kafka", "kafka2", ""},
		"a warning":        {section + "linger_ms = 0x10\n", "my-kafka", "kafka1", ""},
		"one bad broker":   {section + "[my-kafka]\nbrokers = kafka1:x, kafka2\n", "my-kafka", "kafka2", ""},
		"an error":         {section + "lingr_ms = 5\n", "my-kafka", "", "did you mean linger_ms?"},
		"only consuming":   {section + "group_id = g\nenable_idempotence = yes\nacks = 1\n", "my-kafka", "", "needs acks = -1"},
		"not a connection": {"[general]\nenabled = yes\n", "general", "", "connection general cannot be used"},
	} {
		o := spoolOptions{config: "kafka.conf", configText: c.text, connection: c.connection}
		got, err := o.settings("")
		switch {
		case c.failure != "" && (err == nil || !strings.Contains(err.Error(), c.failure)):
			t.Errorf("%s: %v, want %q", name, err, c.failure)
		case c.failure == "" && (err != nil || got.BrokersText() != c.brokers):
			t.Errorf("%s: %v, %v", name, got, err)
		}
	}
}
