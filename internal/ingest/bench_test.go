package ingest

import (
	"encoding/binary"
	"fmt"
	"syscall"
	"testing"
	"time"

	"reskafka/internal/frame"
)

// usage returns the processor time of this process, and its number of voluntary context switches.
func usage(b *testing.B) (time.Duration, int64) {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()), int64(u.Nvcsw)
}

// BenchmarkDoor measures the cost of the Door in this process: a real stage in another process, frames of 300
// bytes, each read and done at once. It takes 5 seconds for each rate, at any -benchtime.
func BenchmarkDoor(b *testing.B) {
	for _, rate := range []int{300, 2000, 0} {
		name := fmt.Sprint(rate, " a second")
		if rate == 0 {
			name = "flat out"
		}
		b.Run(name, func(b *testing.B) {
			interval := 0
			if rate > 0 {
				interval = 1_000_000 / rate
			}
			w := startWriter(b, memoryFolder(b), 1, interval, 300-8)
			var own [3]int
			for i, f := range w.Files {
				own[i] = duplicate(b, int(f.Fd()))
			}
			door, err := Open(own[0], own[1], own[2], testLog{b})
			if err != nil {
				b.Fatal(err)
			}
			ranges, frames := 0, 0
			err = door.Start("", func(id uint64, r Range) {
				n, charge := 0, 0
				_ = frame.Walk(r.Frames, func(f *frame.Frame) {
					n++
					charge += int(f.Charge)
					r.State(f.At).Store(frame.Done)
				}, nil)
				door.Gate(id).Finish(int64(n), int64(charge))
				ranges, frames = ranges+1, frames+n
			})
			if err != nil {
				b.Fatal(err)
			}
			for id := range uint64(2) {
				g := door.Gate(id + 1)
				g.MaxFrames.Store(100_000)
				g.MaxCharge.Store(1 << 30)
				g.MaxLength.Store(1 << 20)
				g.LingerNS.Store(int64(5 * time.Millisecond))
				g.Open.Store(1)
			}
			w.Tell('n')
			time.Sleep(200 * time.Millisecond)
			door.mtx.Lock()
			ranges, frames = 0, 0
			door.mtx.Unlock()
			before, switched := usage(b)
			wakes(b, w)
			began := time.Now()
			time.Sleep(5 * time.Second)
			spent, switches := usage(b)
			seconds := time.Since(began).Seconds()
			door.mtx.Lock()
			defer door.mtx.Unlock()
			cpu := (spent - before).Seconds()
			b.ReportMetric(float64(frames)/seconds, "frames/s")
			b.ReportMetric(100*cpu/seconds, "%cpu")
			b.ReportMetric(cpu*1e9/float64(max(frames, 1)), "ns-cpu/frame")
			b.ReportMetric(float64(ranges)/seconds, "ranges/s")
			b.ReportMetric(float64(wakes(b, w))/seconds, "wakes/s")
			b.ReportMetric(float64(switches-switched)/seconds, "switches/s")
			w.Kill()
		})
	}
}

// wakes returns the number of wake-ups of the engine since the last call, from the eventfd, which the Door
// never reads.
func wakes(b *testing.B, w *writing) int64 {
	var count [8]byte
	if _, err := syscall.Read(int(w.Files[2].Fd()), count[:]); err != nil && err != syscall.EAGAIN {
		b.Fatal(err)
	}
	return int64(binary.NativeEndian.Uint64(count[:]))
}
