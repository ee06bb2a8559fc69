package boundary

import "fmt"

// Build is a sum of this program's sources, set by the Makefile. The module has the same value in RESK_BUILD
// of build.h, which the Makefile writes.
var Build = "unset"

// VersionError is the error of two sides with different builds.
type VersionError struct {
	ABI   uint64 // of the other side
	Build string // of the other side
}

// Error implements error.
func (e *VersionError) Error() string {
	return fmt.Sprintf("res_kafka.so and reskafka must be of one build, but one is %q (boundary %d) and the other %q"+
		" (boundary %d); install both, then load the module again", Build, ABIVersion, e.Build, e.ABI)
}

// CheckPeer compares the version in a hello, request or answer, with this program's version. It reads only
// fields equal in every version. Errors: *VersionError; ErrFormat (wrapped) for a frame that is not a hello.
func CheckPeer(f *Frame) error {
	if m := byKind[f.Kind]; m == nil || m.Name != "hello" {
		return fmt.Errorf("%w: %s where hello is expected", ErrFormat, f.name())
	}
	r := NewReader(f.Fields)
	if f.Answer {
		r.Number() // result
	}
	e := VersionError{ABI: r.Number(), Build: r.Text()}
	if r.err != nil {
		return fmt.Errorf("%s: %w", f.name(), r.err)
	}
	if e.ABI != ABIVersion || e.Build != Build {
		return &e
	}
	return nil
}
