package console

import (
	"errors"
	"slices"
	"strings"
	"testing"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/metrics"
)

func TestByFrequency(t *testing.T) {
	got := byFrequency(map[string]uint64{"b": 1, "a": 1, "c": 2})
	if !slices.Equal(got, []ReasonCount{{"c", 2}, {"a", 1}, {"b", 1}}) {
		t.Errorf("got %v", got)
	}
}

func TestAge(t *testing.T) {
	for _, c := range []struct {
		d    time.Duration
		want string
	}{
		{-time.Second, "0s"}, {0, "0s"}, {999 * time.Millisecond, "0s"}, {59 * time.Second, "59s"},
		{time.Minute, "1m0s"}, {4*time.Minute + 12*time.Second, "4m12s"}, {time.Hour - 1, "59m59s"},
		{3*time.Hour + 5*time.Minute + 59*time.Second, "3h5m"}, {52 * time.Hour, "2d4h"}, {10000 * time.Hour, "416d16h"},
	} {
		if got := age(c.d); got != c.want {
			t.Errorf("%v: got %s, want %s", c.d, got, c.want)
		}
	}
}

// For any input and any names of connections, commands answer with printable lines.
func FuzzCommands(f *testing.F) {
	f.Add(0, "", "kafka show status", "")
	f.Add(1, "my-kafka", "my-kafka", "m")
	f.Add(3, "a\x1b\xff", "a\x1b\xff", "\xff")
	f.Add(4, "c", "c topic t message m key k", "K")
	f.Fuzz(func(t *testing.T, index int, name, typed, word string) {
		c := Commands[((index%len(Commands))+len(Commands))%len(Commands)]
		numbers := metrics.Of(name)
		numbers.In(metrics.Topic, name).In(metrics.Reason, word).Add(metrics.RecordsDropped, 1)
		numbers.In(metrics.Topic, name).Add(metrics.RecordsAccepted, 1)
		env := &fakeEnv{
			connections: []ConnectionStatus{{Name: name, Brokers: name, Settings: []config.Setting{{Label: name, Value: name}},
				States: []BrokerState{{Address: name, LastError: typed}}, Numbers: numbers, LastError: word}},
			consumers: []ConsumerStatus{{Name: name, GroupID: word, Members: []MemberStatus{{Topics: []string{typed}, MemberID: word,
				Partitions: []PartitionStatus{{Topic: name, Fault: typed}}}}}},
			sendError: errors.New(typed),
		}
		for _, args := range [][]string{
			strings.Split(typed, " "),
			append(strings.Fields(c.Words), strings.Split(typed, " ")...),
			append(strings.Fields(c.Words), name),
			append(strings.Fields(c.Words), name, "topic", typed, "message", word),
		} {
			if text, ok := c.Run(env, args); ok {
				checkText(t, text)
			} else if text != "" {
				t.Errorf("%s: both a text and the usage", c.Words)
			}
			if c.Complete == nil {
				continue
			}
			for _, candidate := range c.Complete(env, args, word) {
				if len(candidate) < len(word) || !strings.EqualFold(candidate[:len(word)], word) || !typable(candidate) {
					t.Errorf("%s: %q is offered for %q", c.Words, candidate, word)
				}
			}
		}
	})
}
