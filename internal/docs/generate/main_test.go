package main

import (
	"bytes"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestRun(t *testing.T) {
	dir := t.TempDir()
	var out bytes.Buffer
	if err := run(dir, true, &out); !errors.Is(err, errStale) || !strings.Contains(err.Error(), command) {
		t.Errorf("check of nothing: %v", err)
	}
	if _, err := os.Stat(filepath.Join(dir, "conf")); err == nil {
		t.Error("a check wrote something")
	}
	if err := run(dir, false, &out); err != nil {
		t.Fatal(err)
	}
	out.Reset()
	if err := run(dir, true, &out); err != nil || out.Len() > 0 {
		t.Errorf("check of what was just written: %v, %s", err, out.String())
	}
	sample := filepath.Join(dir, "conf", "kafka.conf.sample")
	if err := os.WriteFile(sample, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := run(dir, true, &out); !errors.Is(err, errStale) || out.String() != "conf/kafka.conf.sample is stale\n" {
		t.Errorf("check of an old file: %v, %q", err, out.String())
	}
}
