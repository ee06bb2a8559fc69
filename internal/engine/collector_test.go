package engine

import (
	"os"
	"runtime/debug"
	"syscall"
	"testing"
	"time"
	"unsafe"
)

// The policy is in force soon after the engine's start, and the ballast has addresses only, no memory.
func TestTheCollectorsPolicy(t *testing.T) {
	start(t, newLines())
	select {
	case <-tuned:
	case <-time.After(time.Minute):
		t.Fatal("nobody has set the collector's policy")
	}
	percent := debug.SetGCPercent(collectorPercent)
	if percent != collectorPercent {
		t.Errorf("the collector runs at %d percent, want %d", percent, collectorPercent)
	}
	page := os.Getpagesize()
	resident := make([]byte, len(ballast)/page)
	_, _, failed := syscall.Syscall(syscall.SYS_MINCORE, uintptr(unsafe.Pointer(&ballast[0])), uintptr(len(ballast)), uintptr(unsafe.Pointer(&resident[0])))
	if failed != 0 {
		t.Fatal(failed)
	}
	pages := 0
	for _, r := range resident {
		pages += int(r & 1)
	}
	if pages*20 > len(resident) {
		t.Errorf("%d of the ballast's %d pages take memory", pages, len(resident))
	}
}
