package spool

import (
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
)

// Names in a spool's directory.
const (
	lockName    = "lock"
	topicsName  = "topics"
	deadName    = "dead-letters"
	damagedName = "damaged"
	settledName = "settled"
	segmentEnd  = ".seg"
)

const (
	segmentDigits   = 20  // digits of a segment's name, all a position can have
	maxElementBytes = 240 // bytes of an element of a path; file systems allow 255
	elementKept     = 150 // bytes kept of a too long name
)

// Dir is the directory of a connection's spool below root, the option spool_dir.
func Dir(root, connection string) string { return filepath.Join(root, element(connection)) }

// Connection returns the name of the connection whose spool is at dir. ok = false: Dir returns no such
// directory.
func Connection(dir string) (connection string, ok bool) { return nameOf(filepath.Base(dir)) }

// element returns a path element for any name: letters, digits, '-', '_' and '.' are kept, except a '.' at
// the beginning; every other byte becomes '%' and two digits. A too long element ends with "%~" and a
// checksum.
func element(name string) string {
	var b strings.Builder
	for i := range len(name) {
		c := name[i]
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '_', c == '.' && i > 0:
			b.WriteByte(c)
		default:
			fmt.Fprintf(&b, "%%%02X", c)
		}
	}
	switch {
	case name == "":
		return "%~"
	case b.Len() <= maxElementBytes:
		return b.String()
	}
	sum := sha256.Sum256([]byte(name))
	kept := b.String()[:elementKept]
	if i := strings.LastIndexByte(kept, '%'); i > elementKept-3 { // not a part of an escape
		kept = kept[:i]
	}
	return kept + "%~" + hex.EncodeToString(sum[:16])
}

// nameOf is the inverse of element. ok = false: no result of element, or a shortened element.
func nameOf(e string) (name string, ok bool) {
	var b strings.Builder
	for i := 0; i < len(e); i++ {
		if e[i] != '%' {
			b.WriteByte(e[i])
			continue
		}
		if i+3 > len(e) {
			return "", e == "%~"
		}
		c, err := strconv.ParseUint(e[i+1:i+3], 16, 8)
		if err != nil {
			return "", false
		}
		b.WriteByte(byte(c))
		i += 2
	}
	name = b.String()
	return name, name != "" && element(name) == e
}

// segmentName returns the name of the segment with this first position.
func segmentName(first uint64) string {
	return fmt.Sprintf("%0*d%s", segmentDigits, first, segmentEnd)
}

// firstOf is the reverse of segmentName.
func firstOf(name string) (first uint64, ok bool) {
	digits, ok := strings.CutSuffix(name, segmentEnd)
	if !ok || len(digits) != segmentDigits {
		return 0, false
	}
	first, err := strconv.ParseUint(digits, 10, 64)
	return first, err == nil && first > 0 && first < maxPosition && segmentName(first) == name
}

// Found is a connection with a spool.
type Found struct {
	Connection string
	Dir        string
	Records    bool // there are segments of topics, which may hold something to send
	Dead       bool // there are dead letters
}

// List finds the spools below root, the option spool_dir, by the connections' names. It takes no lock. A
// missing root has none. The error names inaccessible directories; the other spools are returned anyway.
func List(root string) ([]Found, error) {
	above, err := openRoot(root)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("listing the spools: %w", err)
	}
	defer func() { _ = above.Close() }()
	entries, err := above.ReadDir(".")
	if err != nil {
		return nil, fmt.Errorf("listing the spools: %w", err)
	}
	var found []Found
	var failed []error
	for _, e := range entries {
		connection, ok := nameOf(e.Name())
		if !ok || !e.IsDir() {
			continue
		}
		f := Found{Connection: connection, Dir: filepath.Join(root, e.Name())}
		switch is, err := f.look(); {
		case err != nil:
			failed = append(failed, err)
		case is:
			found = append(found, f)
		}
	}
	return found, errors.Join(failed...)
}

// look examines a directory. is reports whether it is a spool's.
func (f *Found) look() (is bool, err error) {
	own, err := openSpool(f.Dir, false)
	if err != nil {
		return false, err
	}
	defer func() { _ = own.dir.Close() }()
	if !own.isSpool() {
		return false, nil
	}
	f.Dead = own.hasSegments(filepath.Join(f.Dir, deadName))
	topics, _ := own.ReadDir(filepath.Join(f.Dir, topicsName))
	for _, t := range topics {
		f.Records = f.Records || own.hasSegments(filepath.Join(f.Dir, topicsName, t.Name()))
	}
	return true, nil
}

// isSpool reports whether this is the directory of a connection's spool, by its content.
func (d dirFS) isSpool() bool {
	info, err := d.dir.Lstat(topicsName)
	return err == nil && info.IsDir()
}

func (d dirFS) hasSegments(dir string) bool {
	entries, _ := d.ReadDir(dir)
	for _, e := range entries {
		if _, ok := firstOf(e.Name()); ok {
			return true
		}
	}
	return false
}
