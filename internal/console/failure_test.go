package console

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// failingEnv has a connection with failures only.
type failingEnv struct{ *fakeEnv }

var errTest = errors.New("broker kafka1:9092: not authorized")

func (e failingEnv) TestSend(context.Context, string, string, string, *string) error { return errTest }

// TestFailure_EveryCommand_BeginsWithError guards the first word for scripts: asterisk -rx exits with 0 after
// any output. The golden file has the answer of every command to every failure.
func TestFailure_EveryCommand_BeginsWithError(t *testing.T) {
	arguments := map[string]string{
		"kafka show status": "", "kafka show consumers": "",
		"kafka show connection": "NAME", "kafka show consumer": "NAME", "kafka show spool": "NAME",
		"kafka test send connection": "NAME topic t message m",
		"kafka consumer skip":        "NAME topic t partition 0",
		"kafka spool retry":          "NAME", "kafka spool purge": "NAME",
		"kafka topic create": "NAME orders partitions 3",
	}
	fails := failingEnv{busyEnv()}
	fails.changeError = errTest
	var all strings.Builder
	for _, c := range Commands {
		args, known := arguments[c.Words]
		if !known {
			t.Errorf("%s: this test does not know how it is called", c.Words)
		}
		for _, fault := range []struct {
			what string
			env  Env
			name string
			only string // commands with this failure; empty = all with a connection
		}{
			{"an unknown connection", busyEnv(), "nope", ""},
			{"enabled = no", &fakeEnv{disabled: true}, "my-kafka", ""},
			{"no group_id", busyEnv(), "down", "kafka show consumer, kafka consumer skip"},
			{"a refusal", fails, "my-kafka",
				"kafka test send connection, kafka spool retry, kafka spool purge, kafka topic create, kafka consumer skip"},
		} {
			if args == "" || fault.only != "" && !strings.Contains(fault.only+",", c.Words+",") {
				continue
			}
			line := c.Words + " " + strings.Replace(args, "NAME", fault.name, 1)
			text, ok := run(t, fault.env, line)
			if !ok || !strings.HasPrefix(text, "Error: ") {
				t.Errorf("%s, with %s: %q does not begin with Error:", line, fault.what, text)
			}
			all.WriteString("# " + line + ", with " + fault.what + "\n" + text)
		}
	}
	checkGolden(t, "failures", all.String())
}

// checkGolden compares a text with a golden file.
func checkGolden(t *testing.T, name, got string) {
	t.Helper()
	file := filepath.Join("testdata", name+".golden")
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("%s differs:\n%s", file, got)
	}
}
