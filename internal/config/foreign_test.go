package config

import (
	"os"
	"strings"
	"testing"
)

// otherClients lists the options of librdkafka and of Kafka's Java clients.
func otherClients(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("testdata/keys.txt")
	if err != nil {
		t.Fatal(err)
	}
	var keys []string
	for line := range strings.Lines(string(text)) {
		if !strings.HasPrefix(line, "#") {
			keys = append(keys, strings.Fields(line)...)
		}
	}
	if len(keys) < 300 {
		t.Fatalf("%d keys", len(keys))
	}
	return keys
}

// A user with the configuration of another client gets advice about each of its options. A merely similar
// name gets none.
func TestForeignKeys_OfOtherClients_GetAdvice(t *testing.T) {
	for _, key := range otherClients(t) {
		if connectionTable.option(strings.ReplaceAll(key, ".", "_")) != nil && !strings.Contains(key, ".") {
			continue // an option here too
		}
		_, problems := ParseKafka([]Entry{
			{Line: 1, Section: "a", Name: "type", Value: "connection"}, {Line: 2, Section: "a", Name: key, Value: "v"},
		})
		if len(problems) != 1 || problems[0].Severity != Error {
			t.Errorf("%s: %v", key, problems)
			continue
		}
		text := problems[0].Text
		if _, meant, found := strings.Cut(text, "did you mean "); found {
			if o := connectionTable.option(strings.TrimSuffix(meant, "?")); o == nil || !o.named(key) {
				t.Errorf("%s: %s", key, text)
			}
		} else if strings.Contains(text, "remove it") {
			t.Errorf("%s: %s", key, text)
		}
	}
}

// Every line of advice has a key that reaches it.
func TestForeignKeys_EveryLine_IsOfUse(t *testing.T) {
	for _, k := range foreignKeys {
		for key := range strings.FieldsSeq(k.keys) {
			for i := range connectionTable.Options {
				if connectionTable.Options[i].named(key) {
					t.Errorf("%s is an option: its advice is never given", key)
				}
			}
			if !strings.HasSuffix(key, "*") && adviceFor(key) != k.advice {
				t.Errorf("%s has two lines", key)
			}
		}
	}
}
