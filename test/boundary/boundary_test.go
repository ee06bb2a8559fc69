// Package boundary compares the two implementations of the format between module and engine:
// boundary/codec.c, in the program walk.c, and internal/boundary.
package boundary

import (
	"bytes"
	"encoding/binary"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"reskafka/internal/boundary"
	"reskafka/internal/boundary/boundarytest"
	"reskafka/test/child"
)

// top is the path of the repository.
const top = "../.."

// build compiles a program of testdata and files of boundary/ with a sanitizer, and returns the path of the
// program.
func build(t *testing.T, name, sanitizer string, sources ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), name)
	args := []string{"-std=gnu11", "-D_GNU_SOURCE", "-O1", "-g", "-Wall", "-Wextra", "-Wshadow", "-Werror", "-I" + top,
		"-fsanitize=" + sanitizer, "-fno-sanitize-recover=all", "-fno-omit-frame-pointer", "-pthread",
		"-o", program, "testdata/" + name + ".c"}
	for _, source := range sources {
		args = append(args, top+"/boundary/"+source)
	}
	touch(t, args[len(args)-len(sources)-1:]...)
	touch(t, headers(t)...)
	if out, err := exec.Command("gcc", args...).CombinedOutput(); err != nil {
		t.Fatalf("compiling %s: %v\n%s", name, err, out)
	}
	return program
}

func headers(t *testing.T) []string {
	t.Helper()
	headers, err := filepath.Glob(top + "/boundary/*.h")
	if err != nil || len(headers) == 0 {
		t.Fatal(headers, err)
	}
	return append(headers, top+"/stage/stage.h")
}

// touch reads files, because `go test` caches results and does not see the files read by the compiler.
func touch(t *testing.T, paths ...string) {
	t.Helper()
	for _, path := range paths {
		if _, err := os.Stat(path); err != nil {
			t.Fatal(err)
		}
	}
}

// limit is the longest run of a looping program.
func limit() time.Duration {
	if os.Getenv("RES_KAFKA_LONG") != "" {
		return 10 * time.Minute
	}
	return 2 * time.Minute
}

// run runs a program and returns its output. The program ends with this process.
func run(t *testing.T, input []byte, program string, args ...string) []byte {
	t.Helper()
	name := filepath.Base(program)
	// The address space of some kernels is too random for the thread sanitizer of older compilers; some
	// containers forbid setarch.
	if exec.Command("setarch", "-R", "true").Run() == nil {
		program, args = "setarch", append([]string{"-R", program}, args...)
	}
	cmd := exec.Command(program, args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	// The leak check needs ptrace, which some containers refuse.
	cmd.Env = append(os.Environ(), "ASAN_OPTIONS=detect_leaks=0")
	var out, complaints bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = bytes.NewReader(input), &out, &complaints
	ended := make(chan error, 1)
	if err := child.Start(cmd, func(err error) { ended <- err }); err != nil {
		t.Fatal(err)
	}
	late := time.AfterFunc(limit(), func() { _ = cmd.Process.Kill() })
	defer late.Stop()
	if err := <-ended; err != nil {
		t.Fatalf("%s %v: %v\n%s", name, args, err, complaints.Bytes())
	}
	return out.Bytes()
}

// walk runs walk.c.
func walk(t *testing.T, input []byte, args ...string) []byte {
	t.Helper()
	return run(t, input, build(t, "walk", "address,undefined", "codec.c"), args...)
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

// read decodes the first frame of out on f's receiving side. The length must equal f's.
func read(out []byte, f boundarytest.Frame) (boundary.Frame, []byte, error) {
	side := 1 - f.Row.From
	if f.Answer {
		side = f.Row.From
	}
	n := min(len(out), len(f.Bytes))
	got, err := boundary.NewConn(stream{bytes.NewReader(out[:n])}, side).Read()
	return got, out[n:], err
}

// Each side reads the frames of the other side: C decodes and encodes each message of the table byte for byte
// like Go.
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

// Damaged frames do not harm the C reader: the sanitizers see every read byte.
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

// An engine with damaged, unsolicited, truncated and endless frames does not harm the C peer. The peer serves
// the next engine.
func TestPeer_HostileEngine_Unharmed(t *testing.T) {
	engines := map[string]string{"address,undefined": "30", "thread": "10"}
	for sanitizer, count := range engines {
		t.Run(sanitizer, func(t *testing.T) {
			t.Parallel()
			if os.Getenv("RES_KAFKA_LONG") != "" {
				count += "0"
			}
			program := build(t, "hostile", sanitizer, "peer.c", "peer_io.c", "codec.c")
			t.Logf("%s", run(t, nil, program, "11", count))
		})
	}
}
