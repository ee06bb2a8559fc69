package console

import (
	"slices"
	"testing"
)

// TestTopicCreate_Call_AsksEngineAndSaysOutcome checks the command's request to the engine, and its words.
func TestTopicCreate_Call_AsksEngineAndSaysOutcome(t *testing.T) {
	for _, c := range []struct {
		line    string
		created bool
		asked   []string
		want    string
	}{
		{"my-kafka orders", true, []string{"create orders on my-kafka, 0, 0"}, "Topic orders created\n"},
		{"my-kafka orders partitions 12 replication 3", true, []string{"create orders on my-kafka, 12, 3"}, "Topic orders created\n"},
		{"my-kafka orders Replication 3", false, []string{"create orders on my-kafka, 0, 3"},
			"Topic orders is there already, it stays as it is\n"},
		{"my-kafka orders partitions 0", true, nil, "Error: partitions = 0 is not a whole number from 1 to 2147483647\n"},
		{"my-kafka orders replication 99999", true, nil, "Error: replication = 99999 is not a whole number from 1 to 32767\n"},
		{"my-kafka orders partitions many", true, nil, "Error: partitions = many is not a whole number from 1 to 2147483647\n"},
	} {
		env := busyEnv()
		env.created = c.created
		if got, ok := run(t, env, "kafka topic create "+c.line); got != c.want || !ok {
			t.Errorf("%s: %q, %v", c.line, got, ok)
		}
		if !slices.Equal(env.changed, c.asked) {
			t.Errorf("%s: asked for %q", c.line, env.changed)
		}
	}
}
