package config

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"syscall"
)

// ReadAuthorities reads the certificates of ssl_ca_location: a PEM file, or every file of a folder.
// ParseKafka checks the option with the same function. Blocks on the disk.
func ReadAuthorities(path string) (*x509.CertPool, error) {
	pool, _, err := readAuthorities(path)
	return pool, err
}

// readAuthorities is ReadAuthorities with a hash of the content.
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
	var reason error
	for _, file := range files {
		certificates, err := readCertificates(file)
		if err != nil { // a folder may hold other things
			reason = err
			continue
		}
		for _, certificate := range certificates {
			pool.AddCert(certificate)
			sum.Write(certificate.Raw) // has its own length
			found = true
		}
	}
	switch {
	case found:
		sum.Sum(content[:0])
		return pool, content, nil
	case info.IsDir():
		return nil, content, errors.New("no certificate in PEM format in it")
	}
	return nil, content, reason
}

func readCertificates(path string) ([]*x509.Certificate, error) {
	raw, err := readFile(path)
	if err != nil {
		return nil, err
	}
	return decodeCertificates(raw)
}

// maxFileBytes is more than any file of certificates has: a system's bundle has a quarter of a megabyte.
const maxFileBytes = 16 << 20

// readFile reads a file, except files that could block forever or never end, such as a pipe or a device.
func readFile(path string) ([]byte, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_NONBLOCK, 0)
	if err != nil {
		return nil, err
	}
	defer func() { _ = file.Close() }()
	info, err := file.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, &fs.PathError{Op: "read", Path: path, Err: errors.New("not a file")}
	}
	if info.Size() > maxFileBytes {
		return nil, &fs.PathError{Op: "read", Path: path, Err: fmt.Errorf("%d bytes are too many for certificates", info.Size())}
	}
	return io.ReadAll(io.LimitReader(file, maxFileBytes))
}

// ReadCertificate reads a client's certificate, with further certificates of its file, and its key.
// ParseKafka checks the options with the same function. Blocks on the disk.
func ReadCertificate(certificateFile, keyFile string) (tls.Certificate, error) {
	certificates, err := readCertificates(certificateFile)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the certificate's file: %w", err)
	}
	raw, err := readFile(keyFile)
	if err != nil {
		return tls.Certificate{}, err
	}
	key, err := decodeKey(raw)
	if err != nil {
		return tls.Certificate{}, fmt.Errorf("the key's file: %w", err)
	}
	var chain []byte
	for _, certificate := range certificates {
		chain = append(chain, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: certificate.Raw})...)
	}
	return tls.X509KeyPair(chain, key)
}

// checkCertificates reads the files of a TLS connection, so a mistake shows now and not at the first call.
// Brokers judge an expired certificate.
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
		sc.report(Warning, "ssl_certificate_location", "is not shown to brokers, because ssl_key_location is not set; set both or neither")
	}
	if c.KeyFile != "" && c.CertificateFile == "" {
		sc.report(Error, "ssl_key_location", "needs ssl_certificate_location, which is not set; set both or neither")
	}
	certificateOK := c.CertificateFile != "" && checkCertificateFile(sc)
	if c.KeyFile == "" {
		c.CertificateFile = ""
	}
	keyOK := c.KeyFile != "" && checkKeyFile(sc)
	if !certificateOK || !keyOK {
		return
	}
	if _, err := ReadCertificate(c.CertificateFile, c.KeyFile); err != nil {
		sc.report(Error, "ssl_key_location", fmt.Sprintf("does not fit the certificate, %s (%s); give the key it was"+
			" made with", sc.say("ssl_certificate_location"), strings.TrimPrefix(err.Error(), "tls: ")))
	}
}

// noteContent stores a hash of the content of an option's file.
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
	if _, err := decodeCertificates(text); err != nil {
		sc.report(Error, name, unreadable(err)+advice)
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
	switch _, err := decodeKey(text); {
	case errors.Is(err, errEncryptedKey):
		sc.report(Error, name, "is encrypted; give a key without a passphrase, as openssl pkey -in KEY -out NEWKEY writes it")
		return false
	case err != nil:
		sc.report(Error, name, unreadable(err)+advice)
		return false
	}
	sc.value.noteContent(name, sha256.Sum256(text))
	return true
}

// unreadable returns why a file was refused, without its name.
func unreadable(err error) string {
	var path *fs.PathError
	if errors.As(err, &path) {
		return "cannot be read (" + path.Err.Error() + ")"
	}
	return "cannot be used (" + err.Error() + ")"
}
