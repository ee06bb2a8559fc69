package ingest

import (
	"sync/atomic"
	"testing"
	"time"
)

// TestSuccession_EngineEnds_NextWaits verifies that an engine waits while another engine of the same spool
// directory holds the lock, and no longer than the limit.
func TestSuccession_EngineEnds_NextWaits(t *testing.T) {
	spool, other := t.TempDir(), t.TempDir()
	waits := func(of string, limit time.Duration) (waited bool, took time.Duration) {
		began := time.Now()
		AwaitSuccession(of, limit, func() { waited = true })
		return waited, time.Since(began)
	}
	if waited, _ := waits(spool, time.Minute); waited {
		t.Error("it waits although there never was an engine")
	}
	held := HoldSuccession(spool)
	const limit = 500 * time.Millisecond // longer than a processor comes late
	for of, want := range map[string]bool{spool: true, other: false, "": false} {
		if waited, took := waits(of, limit); waited != want || waited && took < limit {
			t.Errorf("it waits for %q: %v, for %v", of, waited, took)
		}
	}
	second := HoldSuccession(spool)
	second.Release()
	if waited, _ := waits(spool, limit); !waited {
		t.Error("the end of a second one releases the lock of the first")
	}
	var released atomic.Bool
	time.AfterFunc(50*time.Millisecond, func() {
		released.Store(true)
		held.Release()
	})
	if waited, _ := waits(spool, time.Minute); !waited || !released.Load() {
		t.Errorf("it waited: %v, until the release: %v", waited, released.Load())
	}
	held.Release()
}

// TestSuccession_SpoolCannotBeUsed_NobodyWaits verifies that a missing spool directory blocks no engine.
func TestSuccession_SpoolCannotBeUsed_NobodyWaits(t *testing.T) {
	spool := t.TempDir() + "/missing"
	HoldSuccession(spool).Release()
	AwaitSuccession(spool, time.Minute, func() { t.Error("it waits") })
}
