package ingest

import (
	"bufio"
	"encoding/binary"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"
	"unsafe"

	"reskafka/internal/frame"
	"reskafka/internal/host"
	"reskafka/test/writer"
)

// writing is a process with a real stage and several threads.
type writing struct {
	*writer.Writer
	t       testing.TB
	threads int
}

func startWriter(t testing.TB, folder string, threads, interval, size int) *writing {
	t.Helper()
	return &writing{writer.Start(t, folder, threads, interval, size), t, threads}
}

// reader is a process with a Door. For each frame it writes a line with key and number to a file.
type reader struct {
	cmd   *exec.Cmd
	stdin io.WriteCloser
	out   *bufio.Reader
}

// startReader starts a reader and returns after the gates are open and the ring is read. durable: the stages
// use durable slabs.
func (w *writing) startReader(log string, durable bool) *reader {
	w.t.Helper()
	r := &reader{cmd: exec.Command("/proc/self/exe")}
	r.cmd.Env = append(os.Environ(), "INGEST_TEST_READER="+log, "INGEST_TEST_FOLDER="+w.Folder, fmt.Sprint("INGEST_TEST_DURABLE=", durable))
	r.cmd.ExtraFiles = w.Files
	r.cmd.Stderr = os.Stderr
	var err error
	if r.stdin, err = r.cmd.StdinPipe(); err != nil {
		w.t.Fatal(err)
	}
	out, err := r.cmd.StdoutPipe()
	if err == nil {
		err = r.cmd.Start()
	}
	if err != nil {
		w.t.Fatal(err)
	}
	r.out = bufio.NewReader(out)
	w.t.Cleanup(r.kill)
	r.answer(w.t, "ready")
	return r
}

func (r *reader) answer(t testing.TB, want string) {
	t.Helper()
	line, err := r.out.ReadString('\n')
	if err != nil || strings.TrimSpace(line) != want {
		t.Fatalf("the reader says %q, %v; want %q", line, err, want)
	}
}

func (r *reader) kill() {
	_ = r.cmd.Process.Kill()
	_ = r.cmd.Wait()
}

// finish ends the reader as an engine ends after its socket, and waits for the end.
func (r *reader) finish(t testing.TB) {
	t.Helper()
	_ = r.stdin.Close()
	r.answer(t, "finished")
	if err := r.cmd.Wait(); err != nil {
		t.Error(err)
	}
}

// readerLog is the logger of a reader.
type readerLog struct{}

func (readerLog) Log(_ host.Level, _ string, _ int, _, text string) { fmt.Fprintln(os.Stderr, text) }

// outcomes finishes frames after some time and out of order, as a broker's answers do.
type outcomes struct {
	mtx  sync.Mutex
	dice *rand.Rand
	open sync.WaitGroup
}

func (o *outcomes) later(gate *Gate, states []*atomic.Uint32, charge int64) {
	o.mtx.Lock()
	wait := time.Duration(o.dice.IntN(10000)) * time.Microsecond
	o.mtx.Unlock()
	o.open.Add(1)
	time.AfterFunc(wait, func() {
		defer o.open.Done()
		for _, state := range states {
			state.Store(frame.Done)
		}
		if gate != nil {
			gate.Finish(int64(len(states)), charge)
		}
	})
}

// runReader is the reader's process.
func runReader(log, folder string, durable bool) {
	check := func(err error) {
		if err != nil {
			fmt.Fprintln(os.Stderr, "reader:", err)
			os.Exit(1)
		}
	}
	file, err := os.OpenFile(log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	check(err)
	door, err := Open(3, 4, 5, readerLog{})
	check(err)
	o := &outcomes{dice: rand.New(rand.NewPCG(uint64(os.Getpid()), 1))}
	var lines []byte
	var states []*atomic.Uint32
	line := func(f *frame.Frame, state *atomic.Uint32) {
		lines = fmt.Appendf(lines, "%s %d %d.\n", f.Key, binary.NativeEndian.Uint64(f.Value), os.Getpid())
		states = append(states, state)
	}
	tell := func(gate *Gate, charge int64) {
		_, err := file.Write(append([]byte("\n"), lines...)) // all at once, before any is done
		check(err)
		o.later(gate, states, charge)
		lines, states = nil, nil
	}
	bad := func(_ *frame.Frame, err error) { check(err) }
	check(door.Start(folder, func(id uint64, r Range) {
		charge := int64(0)
		check(frame.Walk(r.Frames, func(f *frame.Frame) {
			line(f, r.State(f.At))
			charge += int64(f.Charge)
		}, bad))
		tell(door.Gate(id), charge)
	}))
	for id := range uint64(2) {
		g := door.Gate(id + 1)
		g.MaxFrames.Store(100_000)
		g.MaxCharge.Store(64 << 20)
		g.MaxLength.Store(1 << 20)
		g.LingerNS.Store(int64(time.Millisecond))
		if durable {
			g.Shared.Store(1)
		}
		g.Memory.Store(MemoryLimit(1<<30, 1<<40))
		g.Open.Store(1)
	}
	fmt.Println("ready")
	_, _ = io.Copy(io.Discard, os.Stdin)
	door.Drain()
	for _, slab := range door.Rest() {
		check(slab.Each(func(f *frame.Frame) { line(f, slab.State(f.At)) }, bad))
		tell(nil, 0)
	}
	o.open.Wait()
	if again := door.Rest(); len(again) > 0 {
		check(fmt.Errorf("%d slabs are found again", len(again)))
	}
	door.Close()
	fmt.Println("finished")
}

// delivered reads a log of readers: the numbers of each key in the order of their first arrival, and the
// number of repetitions. Each reader must get the frames of a key in order, independent of earlier readers.
func delivered(t testing.TB, log string) (first map[string][]uint64, again int) {
	t.Helper()
	content, err := os.ReadFile(log)
	if err != nil {
		t.Fatal(err)
	}
	first = map[string][]uint64{}
	seen, last := map[string]bool{}, map[string]uint64{}
	for line := range strings.Lines(string(content)) {
		line, whole := strings.CutSuffix(strings.TrimSpace(line), ".")
		if !whole { // its reader was killed during a write: none of these is done
			continue
		}
		var key string
		var number uint64
		var reader int
		if _, err := fmt.Sscan(line, &key, &number, &reader); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		to := fmt.Sprint(key, " to ", reader)
		if before, ok := last[to]; ok && number <= before {
			t.Errorf("%s: number %d came after %d", to, number, before)
		}
		last[to] = number
		if frame := fmt.Sprint(key, number); seen[frame] {
			again++
		} else {
			seen[frame] = true
			first[key] = append(first[key], number)
		}
	}
	return first, again
}

// check verifies that every accepted frame was delivered, and each thread's frames in order. A killed writer
// may have one accepted frame more per thread than counted.
func (w *writing) check(log string, killed bool) (frames, again int) {
	w.t.Helper()
	first, again := delivered(w.t, log)
	for thread := range w.threads {
		numbers := first[string(rune('A'+thread))]
		want := int(w.Accepted(thread))
		frames += len(numbers)
		if len(numbers) != want && (!killed || len(numbers) != want+1) {
			w.t.Errorf("thread %d: %d frames were delivered, %d were accepted", thread, len(numbers), want)
		}
		for i, n := range numbers {
			if n != uint64(i) {
				w.t.Errorf("thread %d: number %d came first in place of %d", thread, n, i)
				break
			}
		}
	}
	return frames, again
}

// rounds is how often something is done in a history.
func rounds(n int) int {
	if os.Getenv("RES_KAFKA_LONG") != "" {
		return 30 * n
	}
	return n
}

// TestEngineKilled_EveryFrameDeliveredInOrder kills engines at random moments under the full load of four
// threads. Every accepted frame must be delivered, and the frames of a thread in order.
func TestEngineKilled_EveryFrameDeliveredInOrder(t *testing.T) {
	// With an interval, us, engines follow the slabs before they are killed.
	for _, interval := range []int{0, 300} {
		everyFrameInOrder(t, false, interval)
		everyFrameInOrder(t, true, interval)
	}
}

func everyFrameInOrder(t *testing.T, durable bool, interval int) {
	{
		t.Run(fmt.Sprint("durable=", durable, ",interval=", interval), func(t *testing.T) {
			dice := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 2))
			log := filepath.Join(t.TempDir(), "log")
			w := startWriter(t, memoryFolder(t), 4, interval, -1)
			kills := rounds(10)
			for range kills {
				r := w.startReader(log, durable)
				w.Tell('n')
				time.Sleep(time.Duration(dice.IntN(40_000)) * time.Microsecond)
				r.kill()
				time.Sleep(time.Duration(dice.IntN(5_000)) * time.Microsecond)
				w.Tell('l')
			}
			r := w.startReader(log, durable)
			w.Tell('n')
			time.Sleep(20 * time.Millisecond)
			w.Tell('s')
			w.settled(log)
			w.Kill()
			r.finish(t)
			frames, again := w.check(log, false)
			t.Logf("%d kills, %d frames, %d delivered again", kills, frames, again)
		})
	}
}

// settled waits until every accepted frame was delivered.
func (w *writing) settled(log string) {
	w.t.Helper()
	for limit := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		first, _ := delivered(w.t, log)
		missing := 0
		for thread := range w.threads {
			missing += int(w.Accepted(thread)) - len(first[string(rune('A'+thread))])
		}
		if missing <= 0 {
			return
		}
		if time.Now().After(limit) {
			w.t.Fatalf("%d accepted frames are not delivered", missing)
		}
	}
}

// TestWriterKilled_EngineFindsEveryFrame kills the writer at a random moment, also while a new engine takes
// over. The engine must find every accepted frame, in order.
func TestWriterKilled_EngineFindsEveryFrame(t *testing.T) {
	for _, durable := range []bool{false, true} {
		t.Run(fmt.Sprint("durable=", durable), func(t *testing.T) {
			dice := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 3))
			total, twice := 0, 0
			for n := range rounds(6) {
				log := filepath.Join(t.TempDir(), fmt.Sprint("log", n))
				w := startWriter(t, memoryFolder(t), 4, 0, -1)
				r := w.startReader(log, durable)
				w.Tell('n')
				time.Sleep(time.Duration(dice.IntN(20_000)) * time.Microsecond)
				if n%2 == 1 {
					r.kill()
					w.Tell('l')
					time.Sleep(time.Duration(dice.IntN(5_000)) * time.Microsecond)
					r = w.startReader(log, durable)
					w.Tell('n')
					time.Sleep(time.Duration(dice.IntN(3_000)) * time.Microsecond)
				}
				w.Kill()
				r.finish(t)
				frames, again := w.check(log, true)
				if n%2 == 0 && again > 0 {
					t.Errorf("%d frames were delivered twice by one engine", again)
				}
				total, twice = total+frames, twice+again
			}
			t.Logf("%d frames, %d delivered again", total, twice)
		})
	}
}

// After a kill of both, each frame accepted into durable slabs was delivered, or the next start finds the
// frame.
func TestBothKilled_NextStartFindsTheRest(t *testing.T) {
	dice := rand.New(rand.NewPCG(uint64(time.Now().UnixNano()), 4))
	total := 0
	for n := range rounds(5) {
		base, log := memoryFolder(t), filepath.Join(t.TempDir(), "log")
		run, err := NewRun(base, "/spool")
		must(t, err)
		w := startWriter(t, run.Folder(), 4, 50, 200)
		w.openGates() // before the first engine: no frame is in plain slabs
		r := w.startReader(log, true)
		w.Tell('n')
		time.Sleep(time.Duration(dice.IntN(30_000)) * time.Microsecond)
		if n%2 == 0 {
			w.Kill()
			r.kill()
		} else {
			r.kill()
			w.Kill()
		}
		run.release()
		file, err := os.OpenFile(log, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		must(t, err)
		for _, dead := range mustFind(t, base) {
			for _, err := range dead.Bad {
				t.Error(err)
			}
			for _, s := range dead.Slabs {
				err := s.Each(func(f *frame.Frame) {
					fmt.Fprintf(file, "%s %d 0.\n", f.Key, binary.NativeEndian.Uint64(f.Value))
					s.State(f.At).Store(frame.Done)
				}, func(_ *frame.Frame, err error) { t.Error(err) })
				must(t, err)
			}
			must(t, dead.Close())
		}
		must(t, file.Close())
		empty(t, base)
		frames, _ := w.check(log, true)
		total += frames
	}
	t.Logf("%d frames", total)
}

// openGates requests durable slabs for the stages.
func (w *writing) openGates() {
	size := int(unsafe.Sizeof(control{}))
	c := (*control)(unsafe.Pointer(unsafe.SliceData(mapAll(w.t, int(w.Files[0].Fd()), size))))
	for id := 1; id <= 2; id++ {
		c.gates[id].Shared.Store(1)
	}
}

// memoryFolder makes a private folder on a memory file system.
func memoryFolder(t testing.TB) string {
	t.Helper()
	folder, err := os.MkdirTemp(Base, "ingest-test-")
	if err != nil {
		t.Skipf("SKIPPED: there is no %s: %v", Base, err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(folder) })
	return folder
}
