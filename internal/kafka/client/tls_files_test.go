package client

import (
	"crypto/x509"
	"os"
	"path/filepath"
	"testing"
	"time"

	"reskafka/internal/config"
	"reskafka/test/kafkatest"
)

// TestHalfARenewalIsNotTold checks that a certificate without its new key is logged only if the key stays
// missing.
func TestHalfARenewalIsNotTold(t *testing.T) {
	dir := t.TempDir()
	a := kafkatest.NewAuthority(t, "one")
	c := &config.Connection{Name: "c", SecurityProtocol: "ssl", CAFile: a.Write(filepath.Join(dir, "ca.pem"))}
	c.CertificateFile, c.KeyFile = kafkatest.WritePair(t, dir, a.Issue())
	log := kafkatest.NewLines()
	f, err := newTLSFiles(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	f.log = log
	before, _ := f.current()
	key, err := os.ReadFile(c.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	kafkatest.WritePair(t, dir, a.Issue())
	if err := os.WriteFile(c.KeyFile, key, 0o600); err != nil {
		t.Fatal(err)
	}
	written := time.Now()
	for _, path := range []string{c.CAFile, c.CertificateFile, c.KeyFile} {
		if err := os.Chtimes(path, written, written); err != nil {
			t.Fatal(err)
		}
	}
	for _, after := range []time.Duration{timestamps - 1, timestamps + 1} {
		f.now = func() time.Time { return written.Add(after) }
		if conf, _ := f.current(); conf != before {
			t.Errorf("%v later they are used", after)
		}
		if told := len(log.About("cannot be used")) > 0; told != (after > timestamps) {
			t.Errorf("%v later it has been told of: %v", after, told)
		}
	}
}

// TestRenewedFilesAreNoticed checks the changes that make a new connection read the files again: another
// file, size or time, and any read while a file is too new for its time to be reliable.
func TestRenewedFilesAreNoticed(t *testing.T) {
	dir := t.TempDir()
	one, two := kafkatest.NewAuthority(t, "one"), kafkatest.NewAuthority(t, "two")
	folder := filepath.Join(dir, "folder")
	if err := os.Mkdir(folder, 0o700); err != nil {
		t.Fatal(err)
	}
	long := time.Now().Add(-time.Hour)
	age := func(path string) { // and makes all files equally long
		t.Helper()
		if path != folder {
			if err := os.Truncate(path, 2000); err != nil {
				t.Fatal(err)
			}
		}
		if err := os.Chtimes(path, long, long); err != nil {
			t.Fatal(err)
		}
	}
	file := one.Write(filepath.Join(folder, "one.pem"))
	age(file)
	age(folder)
	open := func(path string) *tlsFiles {
		t.Helper()
		f, err := newTLSFiles(&config.Connection{Name: "c", SecurityProtocol: "ssl", CAFile: path}, nil)
		if err != nil {
			t.Fatal(err)
		}
		return f
	}
	single, all := open(file), open(folder)
	before, _ := single.current()
	if again, _ := single.current(); again != before {
		t.Error("the files were read again without a change")
	}
	trusts := func(f *tlsFiles, authorities ...*kafkatest.Authority) bool {
		pool := x509.NewCertPool()
		for _, a := range authorities {
			pool.AddCert(a.Cert)
		}
		conf, _ := f.current()
		return conf.RootCAs.Equal(pool)
	}
	age(two.Write(filepath.Join(folder, "two.pem")))
	age(folder)
	if !trusts(all, one, two) || !trusts(single, one) {
		t.Error("another file in the folder was not noticed")
	}
	replacement := two.Write(filepath.Join(dir, "new.pem"))
	age(replacement)
	if err := os.Rename(replacement, file); err != nil {
		t.Fatal(err)
	}
	if !trusts(single, two) || !trusts(all, two) {
		t.Error("another file of the same age was not noticed")
	}
	one.Write(file)
	if !trusts(single, one) {
		t.Error("a file that was written again was not noticed")
	}
	present, err := os.Stat(file)
	if err != nil {
		t.Fatal(err)
	}
	two.Write(file)
	if err := os.Chtimes(file, present.ModTime(), present.ModTime()); err != nil {
		t.Fatal(err)
	}
	if !trusts(single, two) {
		t.Error("a change in the same tick of the clock was not noticed")
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	if !trusts(single, two) {
		t.Error("a file that is gone was taken for an empty one")
	}
}
