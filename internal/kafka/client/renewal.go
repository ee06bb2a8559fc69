package client

import (
	"crypto/tls"
	"crypto/x509"
	"os"
	"path/filepath"
	"slices"
	"sync"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/throttle"
)

// tlsFiles are the TLS files of one client. Whatever renews a certificate replaces it under its old name, at an hour when
// nobody reloads anything, and the brokers turn away the one before as soon as it has ended: so every new connection looks
// whether the files are the ones that were read, which takes a few calls of stat. While what is there now cannot be
// used, because it is half written or a key does not belong to its certificate, the last that could goes on in use.
type tlsFiles struct {
	settings *config.Connection
	name     string
	log      host.Logger
	lines    *throttle.Throttle
	now      func() time.Time // of the clock that files have their times from

	mtx    sync.Mutex
	conf   *tls.Config // without a server name
	own    *x509.Certificate
	stamps []stamp // of what conf was read from
	racy   bool    // a file was so new when it was read that another change may have left its stamp as it was
	broken bool    // what is there now cannot be used, and that was logged
}

// stamp tells one state of a file from another without reading it.
type stamp struct {
	path string
	info os.FileInfo // nil = there is no such file
}

// timestamps is how far apart two changes of a file are at least that have different times: the kernel's clock for
// that ticks every 10 ms at the slowest, and other file systems than Linux's own keep seconds, or two of them. It is also how long
// whoever renews files may take to write them before those that do not belong together are told of.
const timestamps = 2 * time.Second

// newTLSFiles reads the files. It is nil for a protocol without TLS. log may be nil.
func newTLSFiles(c *config.Connection, log *Logger) (*tlsFiles, error) {
	f := &tlsFiles{settings: c, name: c.Name, lines: throttle.New(QuietTime, time.Now), now: time.Now}
	if log != nil {
		f.log = log.log
	}
	stamps := f.look()
	conf, own, err := readTLS(c)
	if err != nil || conf == nil {
		return nil, err
	}
	f.conf, f.own = conf, own
	f.read(stamps)
	return f, nil
}

// current gives what a new connection is to use, and when the client's certificate ends, zero without one. It may wait
// for the disk.
func (f *tlsFiles) current() (conf *tls.Config, expires time.Time) {
	f.mtx.Lock()
	defer f.mtx.Unlock()
	if now := f.look(); f.racy || !slices.EqualFunc(f.stamps, now, stamp.same) {
		f.renew(now)
	}
	if f.own != nil {
		expires = f.own.NotAfter
	}
	return f.conf, expires
}

// renew reads the files, whose stamps were taken before. The mutex is held.
func (f *tlsFiles) renew(stamps []stamp) {
	conf, own, err := readTLS(f.settings)
	if err != nil {
		if slices.ContainsFunc(stamps, f.beingWritten) { // the next connection looks again
			return
		}
		f.broken = true
		if suppressed, ok := f.lines.Allow(err.Error()); ok {
			host.Logf(f.log, host.Warning, "connection %s: renewed TLS files cannot be used, those before stay in use: %v%s", f.name, err, inAttempts(suppressed))
		}
		return
	}
	changed := !conf.RootCAs.Equal(f.conf.RootCAs) || !sameCertificate(own, f.own)
	if changed || f.broken {
		until := ""
		if own != nil {
			until = "; the client certificate is valid until " + date(own.NotAfter)
		}
		host.Logf(f.log, host.Notice, "connection %s: renewed TLS files are used from now on%s", f.name, until)
	}
	f.conf, f.own, f.broken = conf, own, false
	f.read(stamps)
}

// read notes that what is in use was read from files with these stamps. The mutex is held, or nobody else knows f yet.
func (f *tlsFiles) read(stamps []stamp) {
	f.stamps = stamps
	latest := f.now().Add(-timestamps)
	f.racy = slices.ContainsFunc(stamps, func(s stamp) bool { return s.info != nil && s.info.ModTime().After(latest) })
}

// beingWritten says whether a file was changed just now.
func (f *tlsFiles) beingWritten(s stamp) bool {
	return s.info != nil && f.now().Sub(s.info.ModTime()).Abs() < timestamps
}

// look takes the stamps of all files, those of a folder of authorities included.
func (f *tlsFiles) look() []stamp {
	var all []stamp
	for _, path := range []string{f.settings.CAFile, f.settings.CertificateFile, f.settings.KeyFile} {
		if path == "" {
			continue
		}
		s := stampOf(path)
		all = append(all, s)
		if s.info == nil || !s.info.IsDir() {
			continue
		}
		entries, _ := os.ReadDir(path) // reading the authorities tells of the error
		for _, entry := range entries {
			all = append(all, stampOf(filepath.Join(path, entry.Name())))
		}
	}
	return all
}

func stampOf(path string) stamp {
	info, err := os.Stat(path)
	if err != nil {
		return stamp{path, nil}
	}
	return stamp{path, info}
}

func (s stamp) same(t stamp) bool {
	if s.path != t.path || s.info == nil || t.info == nil {
		return s.path == t.path && s.info == nil && t.info == nil
	}
	return os.SameFile(s.info, t.info) && s.info.Size() == t.info.Size() && s.info.ModTime().Equal(t.info.ModTime())
}

func sameCertificate(a, b *x509.Certificate) bool {
	if a == nil || b == nil {
		return a == b
	}
	return a.Equal(b)
}
