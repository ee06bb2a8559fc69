// Package boundary compares the two implementations of the format between module and engine: boundary/codec.c, in the
// program walk.c, and internal/boundary.
package boundary

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"reskafka/internal/boundary"
	"reskafka/internal/boundary/boundarytest"
)

// program is walk.c, compiled with the sanitizers.
var program string

// headers and sources are what it is made of.
var (
	sources = []string{"testdata/walk.c", "../../boundary/codec.c"}
	headers = []string{"../../boundary/codec.h", "../../boundary/messages.h", "../../stage/stage.h"}
)

func TestMain(m *testing.M) {
	dir, err := os.MkdirTemp("", "boundary")
	if err != nil {
		panic(err)
	}
	program = filepath.Join(dir, "walk")
	flags := []string{"-std=gnu11", "-O1", "-g", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-I../..",
		"-fsanitize=address,undefined", "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-o", program}
	out, err := exec.Command("gcc", append(flags, sources...)...).CombinedOutput()
	if err != nil {
		fmt.Printf("compiling walk.c: %v\n%s", err, out)
		os.Exit(1)
	}
	status := m.Run()
	_ = os.RemoveAll(dir)
	os.Exit(status)
}

// walk runs the program and returns its output.
func walk(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	for _, path := range append(sources, headers...) { // so that `go test` runs again when one has changed
		if _, err := os.ReadFile(path); err != nil {
			t.Fatal(err)
		}
	}
	cmd := exec.Command(program, args...)
	cmd.Stdin = bytes.NewReader(input)
	// Leaks are not looked for: that needs ptrace, which some containers refuse.
	cmd.Env = append(os.Environ(), "ASAN_OPTIONS=detect_leaks=0")
	var complaints bytes.Buffer
	cmd.Stderr = &complaints
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("walk %v: %v\n%s", args, err, complaints.Bytes())
	}
	return out
}

// shape describes fields to the program.
func shape(fields []boundary.Field) string {
	var b strings.Builder
	for i := range fields {
		switch f := &fields[i]; f.Type {
		case boundary.Uint64:
			b.WriteByte('n')
		case boundary.Int64:
			b.WriteByte('s')
		case boundary.Uint32:
			b.WriteByte('u')
		case boundary.Int32:
			b.WriteByte('i')
		case boundary.Bool:
			b.WriteByte('b')
		case boundary.Text, boundary.Bytes:
			b.WriteByte('t')
		case boundary.Texts:
			b.WriteString("[t]")
		case boundary.List:
			b.WriteString("[" + shape(f.Of.Fields) + "]")
		}
	}
	return b.String()
}

// record appends a sample for the program.
func record(input []byte, shape string, frame []byte) []byte {
	input = binary.LittleEndian.AppendUint32(input, uint32(len(shape)))
	input = append(input, shape...)
	input = binary.LittleEndian.AppendUint32(input, uint32(len(frame)))
	return append(input, frame...)
}

// stream is a socket with bytes to be read.
type stream struct{ *bytes.Reader }

func (stream) Write([]byte) (int, error) { return 0, os.ErrInvalid }
func (stream) Close() error              { return nil }

// read returns the first frame of out, which has to be as long as f, as the side that f is for reads it.
func read(out []byte, f boundarytest.Frame) (boundary.Frame, []byte, error) {
	side := 1 - f.Row.From
	if f.Answer {
		side = f.Row.From
	}
	n := min(len(out), len(f.Bytes))
	got, err := boundary.NewConn(stream{bytes.NewReader(out[:n])}, side).Read()
	return got, out[n:], err
}

// Both sides read what the other one writes: C decodes and encodes each message of the table as Go does, byte by byte.
func TestCodec_EveryMessage_SameInCAndGo(t *testing.T) {
	rng := rand.New(rand.NewPCG(1, 2))
	var input []byte
	var frames []boundarytest.Frame
	for range 50 {
		for _, f := range boundarytest.Frames(rng) {
			frames = append(frames, f)
			input = record(input, shape(f.Fields), f.Bytes)
		}
	}
	out := walk(t, input, "echo")
	for i, f := range frames {
		got, rest, err := read(out, f)
		if err != nil {
			t.Fatalf("frame %d, %s: %v", i, f.Row.Name, err)
		}
		out = rest
		body := f.New()
		if err := got.Decode(body); err != nil {
			t.Fatalf("frame %d, %s: %v", i, f.Row.Name, err)
		}
		if again := boundarytest.Encode(got.Kind, got.Answer, got.Number, body); !bytes.Equal(again, f.Bytes) {
			t.Fatalf("frame %d, %s:\nGo wrote\n%q\nand read what C made of it as\n%q", i, f.Row.Name, f.Bytes, again)
		}
	}
}

// The C reader is unharmed by damaged frames: the sanitizers see every byte that it reads.
func TestCodec_DamagedFrames_CReaderUnharmed(t *testing.T) {
	rounds := "200000"
	if os.Getenv("RES_KAFKA_LONG") != "" {
		rounds = "20000000"
	}
	rng := rand.New(rand.NewPCG(3, 4))
	var input []byte
	for range 8 {
		for _, f := range boundarytest.Frames(rng) {
			input = record(input, shape(f.Fields), f.Bytes)
		}
	}
	t.Logf("%s", walk(t, input, "fuzz", "7", rounds))
}
