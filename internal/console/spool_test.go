package console

import (
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"time"

	"reskafka/internal/metrics"
)

// busySpools has a spool in every state distinguished by commands.
func busySpools() []SpoolStatus {
	const mib = 1 << 20
	return []SpoolStatus{
		{
			Name: "my-kafka", Durability: "overflow", Dir: "/var/spool/asterisk/kafka/my-kafka", State: SpoolInUse,
			Numbers: of("my-kafka", values{
				{metrics.SpoolBytes, 11*mib + 300<<10, ""}, {metrics.SpoolLimit, 512 * mib, ""}, {metrics.SpoolDeadLetters, 3, ""},
				{metrics.SpoolDamaged, 1, ""}, {metrics.SpoolSetAside, 2, ""},
				{metrics.RecordsAccepted, 4, "topic zeta"}, {metrics.RecordsSpooled, 4, "topic zeta"},
				{metrics.SpoolTopicBytes, 812, "topic zeta"}, {metrics.SpoolOldest, at(9 * time.Second), "topic zeta"},
				{metrics.RecordsAccepted, 18200, "topic asterisk_cdr"}, {metrics.RecordsSpooled, 18200, "topic asterisk_cdr"},
				{metrics.SpoolTopicBytes, 11 * mib, "topic asterisk_cdr"},
				{metrics.SpoolOldest, at(4*time.Minute + 10*time.Second), "topic asterisk_cdr"},
				{metrics.RecordsAccepted, 7, "topic middle"}, {metrics.SpoolTopicBytes, 0, "topic middle"},
				{metrics.RecordsAccepted, 7, "topic not on disk"}, {metrics.RecordsSpooled, 0, "topic not on disk"},
			}),
		},
		{Name: "up", Durability: "memory", Dir: "/var/spool/asterisk/kafka/up", State: SpoolUnused,
			Numbers: of("up", values{{metrics.SpoolLimit, 1 << 30, ""}})},
		{Name: "down", Durability: "disk", Dir: "/mnt/kafka/down", State: "locked by process 4711",
			Numbers: of("down", values{{metrics.SpoolLimit, 1 << 40, ""}})},
		{Name: "odd\x1b[2J\n\xff\u202e", Durability: "disk", Dir: "/\x1b", State: "open /\n: permission denied",
			Numbers: of("odd", values{
				{metrics.SpoolBytes, math.MaxInt64, ""}, {metrics.SpoolLimit, math.MaxInt64, ""}, {metrics.SpoolDeadLetters, 1, ""},
				{metrics.RecordsAccepted, math.MaxUint64, "topic to\tpic"}, {metrics.RecordsSpooled, math.MaxUint64, "topic to\tpic"},
				{metrics.SpoolTopicBytes, math.MaxInt64, "topic to\tpic"}, {metrics.SpoolOldest, 0, "topic to\tpic"},
			})},
	}
}

// smaller is the first spool with other numbers of records and dead letters.
func smaller(s *SpoolStatus, records, dead uint64) {
	s.Numbers = of("my-kafka", values{
		{metrics.SpoolBytes, 11<<20 + 300<<10, ""}, {metrics.SpoolLimit, 512 << 20, ""}, {metrics.SpoolDeadLetters, dead, ""},
		{metrics.RecordsSpooled, records, "topic t"}, {metrics.SpoolOldest, at(250 * time.Second), "topic t"},
	})
}

func TestSize(t *testing.T) {
	for bytes, want := range map[int64]string{
		0: "0 B", 1023: "1023 B", 1024: "1 KiB", 1536: "1.5 KiB", 99<<10 + 972: "99.9 KiB", 99<<10 + 973: "100 KiB",
		512 << 20: "512 MiB", 11<<20 + 300<<10: "11.3 MiB", 1<<20 - 1: "1 MiB", 1 << 40: "1 TiB", math.MaxInt64: "8 EiB",
	} {
		if got := size(bytes); got != want {
			t.Errorf("%d bytes: got %q, want %q", bytes, got, want)
		}
	}
}

// The line of kafka show connection has exactly the facts in need of attention.
func TestSpoolSummary(t *testing.T) {
	s := busySpools()[0]
	for want, change := range map[string]func(){
		"18204 records, 11.3 MiB of 512 MiB, oldest 4m10s, 3 dead letters": func() {},
		"18204 records, 11.3 MiB of 512 MiB, oldest 4m10s, 1 dead letter":  func() { smaller(&s, 18204, 1) },
		"1 record, 11.3 MiB of 512 MiB, oldest 4m10s":                      func() { smaller(&s, 1, 0) },
		"0 records, 0 B of 512 MiB": func() {
			s = SpoolStatus{State: SpoolInUse, Numbers: of("my-kafka", values{{metrics.SpoolLimit, 512 << 20, ""}})}
		},
		"not used yet": func() { s.State = SpoolUnused },
		"18204 records, 11.3 MiB of 512 MiB, oldest 4m10s, 3 dead letters; disk\\x0afull": func() { s.State = "disk\nfull" },
	} {
		s = busySpools()[0]
		change()
		if got := s.summary(testNow); got != want {
			t.Errorf("got %q, want %q", got, want)
		}
	}
}

func TestRetrySpool(t *testing.T) {
	for _, c := range []struct {
		retried RetryResult
		err     error
		want    string
	}{
		{RetryResult{}, nil, "Nothing to retry: there are no dead letters, and no topic waits after a failure\n"},
		{RetryResult{Letters: 3}, nil, "Sending 3 dead letters again\n"},
		{RetryResult{Topics: 1}, nil, "Trying 1 topic at once\n"},
		{RetryResult{Letters: 1, Topics: 2}, nil, "Sending 1 dead letter again and trying 2 topics at once\n"},
		{RetryResult{}, errors.New("disk\x1b full"), "Error: Retry failed: disk\\x1b full\n"},
		{RetryResult{Letters: 7}, errors.New("disk full"), "Error: Retry failed: disk full\nDone before that: Sending 7 dead letters again\n"},
	} {
		env := busyEnv()
		env.retried, env.changeError = c.retried, c.err
		if got, ok := run(t, env, "kafka spool retry my-kafka"); got != c.want || !ok {
			t.Errorf("got %q, %t; want %q", got, ok, c.want)
		}
		if !slices.Equal(env.changed, []string{"retry my-kafka"}) {
			t.Errorf("changed %q", env.changed)
		}
	}
}

// A command accepts a single topic, and nothing else.
func TestSpoolChange_Topic_IsPassedOn(t *testing.T) {
	env := busyEnv()
	for _, line := range []string{"retry my-kafka topic calls", "purge my-kafka TOPIC calls"} {
		if _, ok := run(t, env, "kafka spool "+line); !ok {
			t.Errorf("%s shows the usage", line)
		}
	}
	if want := []string{"retry my-kafka calls", "purge my-kafka calls"}; !slices.Equal(env.changed, want) {
		t.Errorf("changed %q, want %q", env.changed, want)
	}
	for _, line := range []string{"purge my-kafka topic", "purge my-kafka calls", "purge my-kafka key calls", "retry my-kafka topic a b"} {
		if _, ok := run(t, env, "kafka spool "+line); ok {
			t.Errorf("%s does not show the usage", line)
		}
	}
	if len(env.changed) != 2 {
		t.Errorf("changed %q", env.changed)
	}
}

// The answer has the deleted records, also after a partial failure.
func TestPurgeSpool(t *testing.T) {
	for _, c := range []struct {
		purged PurgeResult
		err    error
		want   string
	}{
		{PurgeResult{}, nil, "Nothing to purge: there are no records and no dead letters on disk\n"},
		{PurgeResult{18204, 3, 11 << 20}, nil, "Threw away 18204 records and 3 dead letters, 11 MiB\n"},
		{PurgeResult{0, 1, 0}, nil, "Threw away 0 records and 1 dead letter, 0 B\n"},
		{PurgeResult{0, 0, 100}, nil, "Threw away 0 records and 0 dead letters, 100 B\n"},
		{PurgeResult{}, errors.New("not permitted"), "Error: Purge failed: not permitted\n"},
		{PurgeResult{1, 0, 100}, errors.New("not permitted"), "Error: Purge failed: not permitted\nDone before that: Threw away 1 record and 0 dead letters, 100 B\n"},
	} {
		env := busyEnv()
		env.purged, env.changeError = c.purged, c.err
		if got, ok := run(t, env, "kafka spool purge my-kafka"); got != c.want || !ok {
			t.Errorf("got %q, %t; want %q", got, ok, c.want)
		}
		if !slices.Equal(env.changed, []string{"purge my-kafka"}) {
			t.Errorf("changed %q", env.changed)
		}
	}
}

// An unknown name changes nothing, however similar.
func TestChangeOfNoSpool(t *testing.T) {
	for _, words := range []string{"kafka spool retry", "kafka spool purge"} {
		for _, name := range []string{"nope", "my-kafk", "MY-KAFKA", "my-kafka2"} {
			env := busyEnv()
			got, ok := run(t, env, words+" "+name)
			if got != "Error: No connection named "+name+"\n" || !ok || len(env.changed) > 0 {
				t.Errorf("%s %s: got %q, %t, changed %q", words, name, got, ok, env.changed)
			}
		}
		env := &fakeEnv{disabled: true}
		if got, _ := run(t, env, words+" my-kafka"); got != "Error: "+disabledText || len(env.changed) > 0 {
			t.Errorf("%s: got %q, changed %q", words, got, env.changed)
		}
	}
}

// Spooled messages count: with them the sum is right; without them the sum is wrong, and the output says so.
func TestSpooledIsAccountedFor(t *testing.T) {
	env := busyEnv()
	got, _ := run(t, env, "kafka show connection my-kafka")
	if strings.Contains(got, "Unaccounted") {
		t.Errorf("something is missing:\n%s", got)
	}
	env.connections[0].Numbers.Add(metrics.RecordsAccepted, 1)
	if got, _ = run(t, env, "kafka show connection my-kafka"); !strings.Contains(got, "  Unaccounted for  1\n") {
		t.Errorf("nothing is missing:\n%s", got)
	}
}
