package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// ReadAuthorities reads the certificates of ssl_ca_location: a PEM file, or a folder of which every file is read. It
// is what ParseKafka has checked the option with. Blocks on the disk.
func ReadAuthorities(path string) (*x509.CertPool, error) {
	pool, _, err := readAuthorities(path)
	return pool, err
}

// readAuthorities is ReadAuthorities and gives what stands for the content too.
func readAuthorities(path string) (pool *x509.CertPool, content [sha256.Size]byte, err error) {
	files := []string{path}
	info, err := os.Stat(path)
	if err != nil {
		return nil, content, err
	}
	if info.IsDir() {
		entries, err := os.ReadDir(path)
		if err != nil {
			return nil, content, err
		}
		files = files[:0]
		for _, entry := range entries {
			files = append(files, filepath.Join(path, entry.Name()))
		}
	}
	pool = x509.NewCertPool()
	sum, found := sha256.New(), false
	for _, file := range files {
		text, err := readFile(file)
		if err != nil && info.IsDir() {
			continue // A folder may hold other things.
		}
		if err != nil {
			return nil, content, err
		}
		for _, certificate := range certificates(text) {
			pool.AddCert(certificate)
			sum.Write(certificate.Raw) // It says itself how long it is.
			found = true
		}
	}
	if !found {
		return nil, content, errors.New("no certificate in PEM format in it")
	}
	sum.Sum(content[:0])
	return pool, content, nil
}

// readFile reads a file, but nothing that could block for ever or never end, as a pipe or a device.
func readFile(path string) ([]byte, error) {
	info, err := os.Stat(path)
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a file")}
	}
	return os.ReadFile(path)
}

// certificates gives those of a PEM text that can be parsed. A system's bundle may hold some that Go does not take.
func certificates(text []byte) []*x509.Certificate {
	var out []*x509.Certificate
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if block.Type != "CERTIFICATE" {
			continue
		}
		if certificate, err := x509.ParseCertificate(block.Bytes); err == nil {
			out = append(out, certificate)
		}
	}
	return out
}

// ReadCertificate reads a client's certificate, with what follows it in its file, and its key. It is what ParseKafka
// has checked the options with. Blocks on the disk.
func ReadCertificate(certificateFile, keyFile string) (tls.Certificate, error) {
	certificate, err := readFile(certificateFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := readFile(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.X509KeyPair(certificate, key)
}

// checkCertificates reads the files that a TLS connection will need, so that a mistake shows now and not at the first
// call. A certificate that has expired is the brokers' to judge.
func checkCertificates(sc *scope[Connection]) {
	c := sc.value
	if !usesTLS(c) {
		return
	}
	if c.CAFile != "" {
		_, content, err := readAuthorities(c.CAFile)
		if err != nil {
			sc.report(Error, "ssl_ca_location", unreadable(err)+"; give a PEM file with the certificates to trust")
		}
		c.noteContent("ssl_ca_location", content)
	}
	if c.CertificateFile != "" && c.KeyFile == "" {
		sc.report(Error, "ssl_certificate_location", "needs ssl_key_location, which is not set; set both or neither")
	}
	if c.KeyFile != "" && c.CertificateFile == "" {
		sc.report(Error, "ssl_key_location", "needs ssl_certificate_location, which is not set; set both or neither")
	}
	certificateOK := c.CertificateFile != "" && checkCertificateFile(sc)
	keyOK := c.KeyFile != "" && checkKeyFile(sc)
	if !certificateOK || !keyOK {
		return
	}
	if _, err := ReadCertificate(c.CertificateFile, c.KeyFile); err != nil {
		sc.report(Error, "ssl_key_location", fmt.Sprintf("does not fit the certificate, %s (%s); give the key it was"+
			" made with", sc.say("ssl_certificate_location"), strings.TrimPrefix(err.Error(), "tls: ")))
	}
}

// noteContent notes what the file of an option held.
func (c *Connection) noteContent(option string, content [sha256.Size]byte) {
	if c.contents == nil {
		c.contents = map[string][sha256.Size]byte{}
	}
	c.contents[option] = content
}

func checkCertificateFile(sc *scope[Connection]) bool {
	const name, advice = "ssl_certificate_location", "; give a PEM file with the client's certificate"
	text, err := readFile(sc.value.CertificateFile)
	if err != nil {
		sc.report(Error, name, unreadable(err)+advice)
		return false
	}
	if len(certificates(text)) == 0 {
		sc.report(Error, name, "holds no certificate in PEM format"+advice)
		return false
	}
	sc.value.noteContent(name, sha256.Sum256(text))
	return true
}

func checkKeyFile(sc *scope[Connection]) bool {
	const name, advice = "ssl_key_location", "; give a PEM file with the certificate's key"
	text, err := readFile(sc.value.KeyFile)
	if err != nil {
		sc.report(Error, name, unreadable(err)+advice)
		return false
	}
	for block, rest := pem.Decode(text); block != nil; block, rest = pem.Decode(rest) {
		if !strings.HasSuffix(block.Type, "PRIVATE KEY") {
			continue
		}
		if strings.HasPrefix(block.Type, "ENCRYPTED") || strings.Contains(block.Headers["Proc-Type"], "ENCRYPTED") {
			sc.report(Error, name, "is encrypted; give a key without a passphrase, as openssl pkey -in KEY -out NEWKEY"+
				" writes it")
			return false
		}
		sc.value.noteContent(name, sha256.Sum256(text))
		return true
	}
	sc.report(Error, name, "holds no private key in PEM format"+advice)
	return false
}

// unreadable says why a file was not taken, without repeating its name.
func unreadable(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return "cannot be read (" + path.Err.Error() + ")"
	}
	return "cannot be used (" + err.Error() + ")"
}
