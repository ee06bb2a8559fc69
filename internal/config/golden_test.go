package config_test

import (
	"flag"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reskafka/internal/config"
	"reskafka/internal/config/configtest"
)

var update = flag.Bool("update", false, "rewrite the golden files")

// read gives the entries of a file, with @DIR@ in it replaced by dir.
func read(t *testing.T, path, dir string) []config.Entry {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return configtest.Read(strings.ReplaceAll(string(text), "@DIR@", dir))
}

// faulty lists the faulty files of a folder of testdata.
func faulty(t *testing.T, folder string, least int) []string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("testdata", folder, "*.conf"))
	if err != nil {
		t.Fatal(err)
	}
	if len(files) < least {
		t.Fatalf("%d faulty files in %s, want at least %d", len(files), folder, least)
	}
	return files
}

// compare holds the problems of a file against its golden file. The level stands before each line.
func compare(t *testing.T, path, dir string, problems []config.Problem) {
	t.Helper()
	var b strings.Builder
	for _, p := range problems {
		b.WriteString(p.Severity.String() + ": " + p.String() + "\n")
	}
	got := strings.ReplaceAll(b.String(), dir, "@DIR@")
	golden := strings.TrimSuffix(path, ".conf") + ".golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got != string(want) {
		t.Errorf("got:\n%swant:\n%s(go test ./internal/config -update rewrites it)", got, want)
	}
	if got == "" {
		t.Error("the file has no problem; it belongs into good/")
	}
}

func TestFaultyKafka(t *testing.T) {
	dir := configtest.Keys(t)
	for _, path := range faulty(t, "kafka", 40) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".conf"), func(t *testing.T) {
			cfg, problems := config.ParseKafka(read(t, path, dir))
			compare(t, path, dir, problems)
			if cfg == nil {
				t.Error("no configuration")
			}
		})
	}
}

func TestFaultyCDR(t *testing.T) {
	dir := configtest.Keys(t)
	for _, path := range faulty(t, "cdr", 10) {
		t.Run(strings.TrimSuffix(filepath.Base(path), ".conf"), func(t *testing.T) {
			cfg, problems := config.ParseCDR(read(t, path, dir))
			compare(t, path, dir, problems)
			if (cfg == nil) != config.HasErrors(problems) {
				t.Errorf("configuration %v with problems %v", cfg, problems)
			}
		})
	}
}

// Every golden file has its configuration: one that was renamed would test nothing.
func TestNoLostGoldenFiles(t *testing.T) {
	goldens, err := filepath.Glob("testdata/*/*.golden")
	if err != nil {
		t.Fatal(err)
	}
	for _, golden := range goldens {
		if _, err := os.Stat(strings.TrimSuffix(golden, ".golden") + ".conf"); err != nil {
			t.Error(err)
		}
	}
}
