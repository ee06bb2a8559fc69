package config

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
)

// A certificate's path may name anything: nothing hangs while Asterisk loads, and nothing is read without end.
func TestCertificates_OddFiles_ErrorWithReason(t *testing.T) {
	dir := t.TempDir()
	path := func(name string) string { return filepath.Join(dir, name) }
	if err := syscall.Mkfifo(path("pipe"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path("huge"), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(path("huge"), 200<<30); err != nil {
		t.Skip("SKIPPED: this file system has no file of 200 GB:", err)
	}
	for file, want := range map[string]string{path("pipe"): "not a file", "/dev/zero": "not a file", path("huge"): "too many for certificates"} {
		if _, err := ReadAuthorities(file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("authorities in %s: %v", file, err)
		}
		if _, err := ReadCertificate(file, file); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("a certificate in %s: %v", file, err)
		}
	}
}
