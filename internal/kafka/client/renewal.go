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

// tlsFiles are the TLS files of a client. A renewal replaces a certificate under its old name, without a
// reload, and brokers refuse the old certificate after its expiry. Therefore every new connection compares
// the files by a few calls of stat. While new files are unusable, because a file is half written or a key
// does not match its certificate, the previous files stay in use.
type tlsFiles struct {
	settings *config.Connection
	name     string
	log      host.Logger
	lines    *throttle.Throttle
	now      func() time.Time // the clock of file times

	mtx    sync.Mutex
	conf   *tls.Config // without a server name
	own    *x509.Certificate
	stamps []stamp // of the files of conf
	racy   bool    // a file was so new at the read that a later change may have the same stamp
	broken bool    // the present files are unusable, which was logged
}

// stamp identifies a state of a file without a read.
type stamp struct {
	path string
	info os.FileInfo // nil = there is no such file
}

// timestamps is the least distance of two changes of a file with different times. The kernel's clock for file
// times ticks every 10 ms at the slowest; some file systems have a resolution of one or two seconds. The same
// time is allowed for a renewal of several files, before mismatched files are logged.
const timestamps = 2 * time.Second

// newTLSFiles reads the files. It returns nil for a protocol without TLS. log may be nil.
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

// current returns the configuration for a new connection, and the expiry of the client's certificate, zero
// without a certificate. It may block on the disk.
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

// renew reads the files. stamps were taken before. Caller must hold the mutex.
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

// read notes the stamps of the files in use. Caller must hold the mutex, or f is not shared yet.
func (f *tlsFiles) read(stamps []stamp) {
	f.stamps = stamps
	latest := f.now().Add(-timestamps)
	f.racy = slices.ContainsFunc(stamps, func(s stamp) bool { return s.info != nil && s.info.ModTime().After(latest) })
}

// beingWritten reports whether a file was changed just now.
func (f *tlsFiles) beingWritten(s stamp) bool {
	return s.info != nil && f.now().Sub(s.info.ModTime()).Abs() < timestamps
}

// look returns the stamps of all files, including a folder of authorities.
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
