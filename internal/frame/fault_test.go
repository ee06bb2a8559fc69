package frame_test

import (
	"errors"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
)

// mapped returns a mapping of a file with this content, and the file.
func mapped(t *testing.T, content []byte) ([]byte, *os.File) {
	t.Helper()
	file, err := os.Create(filepath.Join(t.TempDir(), "slab"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = file.Close() })
	if _, err := file.Write(content); err != nil {
		t.Fatal(err)
	}
	memory, err := syscall.Mmap(int(file.Fd()), 0, len(content), syscall.PROT_READ|syscall.PROT_WRITE, syscall.MAP_SHARED)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Munmap(memory) })
	return memory, file
}

// TestSlab_FileTruncated_IsAnError verifies that no method of a slab ends the process after the truncation of the
// slab's file.
func TestSlab_FileTruncated_IsAnError(t *testing.T) {
	memory, file := mapped(t, frametest.Slab("one", 1, 0, build([]byte("k"), []byte("v"))))
	s, err := frame.ReadSlab(memory, int64(len(memory)))
	if err != nil || s.Waiting() != 1 {
		t.Fatalf("%+v, %v", s, err)
	}
	if err := file.Truncate(0); err != nil {
		t.Fatal(err)
	}
	if n := s.Waiting(); n != 0 {
		t.Errorf("%d frames wait", n)
	}
	if err := s.Clone().Each(nil, nil); !errors.Is(err, frame.ErrGone) {
		t.Errorf("reading a clone: %v", err)
	}
	if _, err := frame.ReadSlab(memory, int64(len(memory))); !errors.Is(err, frame.ErrGone) {
		t.Errorf("reading the head: %v", err)
	}
	frame.Finish(s.State(frame.SlabHeadSize), true)
}

// TestFaults_OtherPanic_PassesThrough verifies that a defect is not taken for a truncated file.
func TestFaults_OtherPanic_PassesThrough(t *testing.T) {
	for name, panics := range map[string]func(){
		"a value": func() { panic("a defect") },
		"nil":     func() { var s *frame.Slab; _ = s.Label },
		"bounds":  func() { var none []byte; _ = none[len(name(t))] },
	} {
		func() {
			defer func() {
				if recover() == nil {
					t.Errorf("%s: the panic was lost", name)
				}
			}()
			frame.Faults(panics)
		}()
	}
}

func name(t *testing.T) string { return t.Name() }
