package config_test

import (
	"flag"
	"os"
	"slices"
	"strings"
	"testing"

	"reskafka/internal/config"
	"reskafka/internal/config/configtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// read returns the entries of a file, with @DIR@ replaced by dir.
func read(t *testing.T, path, dir string) []config.Entry {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return configtest.Read(strings.ReplaceAll(string(text), "@DIR@", dir))
}

// oddFiles returns the table of odd files.
func oddFiles(t testing.TB) (head string, table []*configtest.Odd) {
	t.Helper()
	head, table, err := configtest.ReadOdd(configtest.OddFile)
	if err != nil || len(table) < 150 {
		t.Fatalf("%d odd files, want at least 150: %v", len(table), err)
	}
	return head, table
}

// oddKafka returns the table's files of kind kafka.conf.
func oddKafka(t testing.TB) []*configtest.Odd {
	_, table := oddFiles(t)
	return slices.DeleteFunc(table, func(o *configtest.Odd) bool { return o.File != config.KafkaFile.Name })
}

// outcome says who is served by a file, as a row of the table does.
func outcome(o *configtest.Odd, dir string) (string, []config.Problem) {
	entries := configtest.Read(o.In(dir))
	if o.File == config.CDRFile.Name {
		cfg, problems := config.ParseCDR(entries)
		if cfg == nil {
			return "nothing", problems
		}
		return "produces " + cfg.Connection, problems
	}
	cfg, problems := config.ParseKafka(entries)
	if !cfg.Enabled {
		return "nothing", problems
	}
	var produces, consumes string
	for _, c := range cfg.Connections {
		name := " " + strings.ReplaceAll(c.Name, " ", "_")
		if c.NoProducer == "" {
			produces += name
		}
		if c.NoConsumer == "" && c.GroupID != "" {
			consumes += name
		}
	}
	var parts []string
	for _, part := range [][2]string{{"produces", produces}, {"consumes", consumes}} {
		if part[1] != "" {
			parts = append(parts, part[0]+part[1])
		}
	}
	if parts == nil {
		return "nothing", problems
	}
	return strings.Join(parts, ", "), problems
}

// A file that serves a connection on the module on librdkafka serves the connection here. For additional
// services or other values, the README's table of deviations has the reason.
func TestOddFiles_DeliveringThere_DeliverHere(t *testing.T) {
	readme, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	dir := configtest.Keys(t)
	head, table := oddFiles(t)
	for _, o := range table {
		ours, problems := outcome(o, dir)
		var log strings.Builder
		for _, p := range problems {
			log.WriteString(p.Severity.String() + ": " + p.String() + "\n")
		}
		lines := strings.ReplaceAll(log.String(), dir, "@DIR@")
		if *update {
			o.Ours, o.Log = ours, lines
		}
		if o.Ours != ours || o.Log != lines {
			t.Errorf("%s %s:\ngot  %s\n%swant %s\n%s", o.File, o.Name, ours, lines, o.Ours, o.Log)
		}
		if !o.Delivers() {
			t.Errorf("%s %s: there it %s, here it %s", o.File, o.Name, o.There, o.Ours)
		}
		same := slices.Equal(configtest.Serves(o.There), configtest.Serves(o.Ours))
		said := strings.Contains(string(readme), "\n| "+o.Deviates+" | ")
		if !same && o.Deviates == "" || o.Deviates != "" && !said {
			t.Errorf("%s %s: the README lacks %q: there %s, ours %s", o.File, o.Name, o.Deviates, o.There, o.Ours)
		}
	}
	if *update {
		if err := configtest.WriteOdd(configtest.OddFile, head, table); err != nil {
			t.Fatal(err)
		}
	}
}
