package engine

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/twmb/franz-go/pkg/kfake"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
	"reskafka/internal/ingest"
)

// startAt starts an engine of the PBX with the given spool directory.
func startAt(t testing.TB, log *lines, spool string) *rig {
	system := theSystem
	system.SpoolDir = spool
	r := &rig{Engine: Start(system, log), t: t, log: log}
	t.Cleanup(func() { r.Stop(0) })
	return r
}

// leave leaves slabs in shared memory like a killed run, and returns the folder.
func leave(t *testing.T, spool string, slabs ...[]byte) string {
	t.Helper()
	run, err := ingest.NewRun(ingest.Base, spool)
	if err != nil {
		t.Fatal(err)
	}
	for i, slab := range slabs {
		if err := os.WriteFile(filepath.Join(run.Folder(), fmt.Sprint("slab-", i)), slab, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := run.Close(); n == 0 || err != nil {
		t.Fatal(n, err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(run.Folder()) })
	return run.Folder()
}

// slabOfFrames is a slab's file.
func slabOfFrames(label string, first uint64, frames ...frametest.Frame) []byte {
	var bytes []byte
	for _, f := range frames {
		bytes = frametest.Append(bytes, f)
	}
	return frametest.Slab(label, 1, first, bytes)
}

func exists(path string) bool {
	_, err := os.Stat(path)
	return err == nil
}

// states returns the states of a slab's frames.
func states(slab []byte) (all []uint32) {
	for at := 0; at < len(slab); {
		all = append(all, frame.State(slab, at).Load())
		at += int(uint32(slab[at]) | uint32(slab[at+1])<<8)
	}
	return all
}

// A frame of a shared slab stays ready until the record's outcome; a frame without a record is done at once.
func TestKeptFramesAreDoneWhenTheirRecordsAre(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	asked, release := b.hold(t)
	r := start(t, newLines())
	r.configure(section("one", b.address()))
	s := r.open("one")
	var slab []byte
	for _, f := range append(numbered("t", "k", 0, 3), frametest.Frame{Source: 99}) {
		slab = frametest.Append(slab, f)
	}
	s.HeldFrames.Store(4)
	r.Take(s.id, ingest.Range{Frames: slab, Stays: true})
	<-asked
	if got := states(slab); !slices.Equal(got, []uint32{frame.Ready, frame.Ready, frame.Ready, frame.Done}) {
		t.Errorf("on their way the frames' states are %x", got)
	}
	release()
	s.settled()
	if got := states(slab); !slices.Equal(got, []uint32{frame.Done, frame.Done, frame.Done, frame.Done}) {
		t.Errorf("afterwards they are %x", got)
	}
	b.consumed(t, "t", 3)
}

// Records of a killed run come first, in order, without unfinished and done frames. The folder is removed
// after the last delivery.
func TestLeftoversAreSentFirst(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	spool := t.TempDir()
	numbers := numbered("t", "k", 0, 40)
	first := slabOfFrames("one", 0, numbers[:20]...)
	second := slabOfFrames("one", 20, numbers[20:]...)
	at := lastFrame(t, second)
	frametest.SetWhole(second, at, false)
	gone := lastFrame(t, first)
	frametest.SetState(first, gone, frame.Done)
	folder := leave(t, spool, second, first)

	log := newLines()
	r := startAt(t, log, spool)
	r.configure(section("one", b.address()))
	s := r.open("one")
	s.put(numbered("t", "k", 40, 45)...)
	s.settled()
	var got []string
	for _, record := range b.consumed(t, "t", 43) {
		got = append(got, string(record.Value))
	}
	var want []string
	for i := range 45 {
		if i != 19 && i != 39 {
			want = append(want, fmt.Sprint(i))
		}
	}
	if !slices.Equal(got, want) {
		t.Errorf("delivered %q, want %q", got, want)
	}
	log.want(t, 1, "notice: connection 'one': 38 record(s) staged by an earlier run", fmt.Sprint("pid ", os.Getpid()), "are being sent")
	eventually(t, "the folder is removed", func() bool { return !exists(folder) })
	if c := r.status("one").Totals; c.Accepted != 43 || c.Acknowledged != 43 {
		t.Errorf("account %+v", c)
	}
	own := r.StageFolder()
	if !exists(own) {
		t.Errorf("no folder %s", own)
	}
	r.Stop(0)
	if exists(own) {
		t.Errorf("%s is left", own)
	}
}

// Records on disk come before records in shared memory, also for a connection with durability = memory now. A
// reload may remove a connection during its delivery: the log reports no leftovers then.
func TestLeftOnDiskComesBeforeLeftovers(t *testing.T) {
	dir := t.TempDir()
	r := startAt(t, newLines(), dir)
	r.configure(section("one", refusedAddress(t), onDisk))
	r.open("one").put(numbered("t", "k", 0, 20)...)
	r.spooled("one", 20)
	r.Stop(0)

	b := newBroker(t, kfake.SeedTopics(1, "t"))
	numbers := numbered("t", "k", 0, 40)
	leave(t, dir, slabOfFrames("one", 0, numbers[20:]...))
	log := newLines()
	r = startAt(t, log, dir)
	_, release := b.hold(t)
	r.configure(section("one", b.address(), inMemory) + section("two", b.address()))
	eventually(t, "all was found", func() bool { return r.status("one").Totals.Accepted == 40 })
	r.configure(section("two", b.address()))
	if said := log.with("which kafka.conf does not have there"); len(said) > 0 {
		t.Errorf("said of a connection that is delivering: %q", said)
	}
	release()
	b.counts(t, "t", 40)
}

// lastFrame is where the last frame of a slab's file begins.
func lastFrame(t *testing.T, file []byte) (at int) {
	t.Helper()
	s, err := frame.ReadSlab(file, int64(len(file)))
	if err == nil {
		err = s.Each(func(f *frame.Frame) { at = f.At }, nil)
	}
	if err != nil {
		t.Fatal(err)
	}
	return at
}

// Events wait for a source of the same kind, with any number; the receivers of reports are gone.
func TestLeftoverEventsWaitForTheirSource(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t", "asterisk_cdr"))
	spool := t.TempDir()
	log := newLines()
	record := frametest.Frame{AcceptedNS: 1, Topic: "t", Value: []byte("v"), Fields: []frame.Field{
		reportTo(&Reports{ID: 1}, 5), frametest.Text("h", "v")}}
	call := frametest.Frame{AcceptedNS: 1700000000e9, Source: 1<<32 | 77, Fields: []frame.Field{frametest.Text("src", "100")}}
	unknown := frametest.Frame{Source: 1 << 60}
	folder := leave(t, spool, slabOfFrames("one", 0, call, record, unknown))

	r := startAt(t, log, spool)
	reports := r.openReports() // has a former queue's number
	r.configure(section("one", b.address()))
	if got := b.consumed(t, "t", 1)[0]; len(got.Headers) != 1 {
		t.Errorf("headers %v", got.Headers)
	}
	log.want(t, 1, "notice: connection 'one': 1 record(s) staged")
	log.want(t, 1, "notice: connection 'one': 2 record(s) staged", "until the module they came from is there")
	r.openCDR(cdrConf, 0)
	if o := object(t, b.consumed(t, "asterisk_cdr", 1)[0]); o["src"] != "100" {
		t.Errorf("event %v", o)
	}
	r.configure(section("one", b.address())) // once is enough
	r.openCDR(cdrConf, 0)
	b.consumed(t, "asterisk_cdr", 1)
	r.Stop(0)
	if !exists(folder) {
		t.Error("what nobody could read is gone")
	}
	if got, ok := reports.Next(10, false); ok || reports.ID != 1 {
		t.Errorf("queue number %d has reports of another run: %v", reports.ID, got)
	}
}

// Records wait for the return of a removed connection, across restarts.
func TestLeftoversWaitForTheirConnection(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	spool := t.TempDir()
	folder := leave(t, spool, slabOfFrames("old", 0, numbered("t", "k", 0, 5)...))

	log := newLines()
	r := startAt(t, log, spool)
	for range 2 {
		r.configure(section("one", b.address()))
	}
	r.configure("[general]\nenabled = no\n")
	log.want(t, 1, "warning: connection 'old': 5 record(s) staged by an earlier run", "until it can be used: not found")
	log.want(t, 1, "warning: connection 'old': 5 record(s) staged by an earlier run", "until it can be used: disabled")
	r.Stop(0)
	if !exists(folder) {
		t.Fatal("the folder is gone")
	}
	r = startAt(t, newLines(), spool)
	r.configure(section("one", b.address()), section("old", b.address()))
	b.consumed(t, "t", 5)
	eventually(t, "the folder is removed", func() bool { return !exists(folder) })
}

// Adopted and undelivered records survive another kill.
func TestLeftoversSurviveAnotherKill(t *testing.T) {
	spool := t.TempDir()
	unknown := frametest.Frame{Source: 1 << 60} // this frame makes the engine check all leftovers again
	folder := leave(t, spool, slabOfFrames("one", 0, append(numbered("t", "k", 0, 5), unknown)...))
	r := startAt(t, newLines(), spool)
	for range 3 {
		r.configure(section("one", refusedAddress(t), "durability = memory"))
	}
	if c := r.status("one").Totals; c.Accepted != 5 {
		t.Errorf("account %+v", c)
	}
	// Nothing has had an outcome: as the files say, the frames are still to be sent.
	files, err := filepath.Glob(filepath.Join(folder, "slab-*"))
	if err != nil || len(files) != 1 {
		t.Fatal(files, err)
	}
	content, err := os.ReadFile(files[0])
	if err != nil {
		t.Fatal(err)
	}
	if s, err := frame.ReadSlab(content, int64(len(content))); err != nil || s.Waiting() != 6 {
		t.Errorf("%+v, %v", s, err)
	}
}

// rest is a slab before its handover, in memory with or without survival of this process.
func rest(t *testing.T, label string, stage, first uint64, lasting bool, frames ...frametest.Frame) *frame.Slab {
	t.Helper()
	var bytes []byte
	for _, f := range frames {
		bytes = frametest.Append(bytes, f)
	}
	memory := frametest.Slab(label, stage, first, bytes)
	s, err := frame.ReadSlab(memory, int64(len(memory)))
	if err != nil {
		t.Fatal(err)
	}
	s.Lasting = lasting
	return s
}

// After a kill of Asterisk the staged records follow the handed over ones, each once. Undeliverable records
// are counted.
func TestTakeRest_AsteriskKilled_DeliversIt(t *testing.T) {
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	log := newLines()
	r := start(t, log)
	r.configure(section("one", b.address()))
	s := r.open("one")
	s.put(numbered("t", "k", 0, 10)...)
	half := rest(t, "one", s.id, 20, false, numbered("t", "k", 19, 25)...)
	half.From = lastFrame(t, rest(t, "one", s.id, 20, false, numbered("t", "k", 19, 20)...).Memory) + 1
	slabs := []*frame.Slab{
		rest(t, "one", s.id, 10, true, numbered("t", "k", 10, 20)...), half,
		rest(t, "", s.id, 26, false, numbered("t", "k", 25, 30)...),
		rest(t, "gone", 77, 0, false, numbered("t", "k", 0, 3)...),
	}
	var states []*atomic.Uint32 // slabs[3] is of no connection
	for _, slab := range slabs[:3] {
		_ = slab.Each(func(f *frame.Frame) { states = append(states, frame.State(slab.Memory, f.At)) }, nil)
	}
	r.TakeRest(slabs)
	var got []string
	for _, record := range b.consumed(t, "t", 30) {
		got = append(got, string(record.Value))
	}
	for i := range got {
		if got[i] != fmt.Sprint(i) {
			t.Fatalf("delivered %q", got)
		}
	}
	eventually(t, "all is done", func() bool {
		return len(states) == 20 && !slices.ContainsFunc(states, func(s *atomic.Uint32) bool { return s.Load() != frame.Done })
	})
	if done := s.DoneFrames.Load(); done != 10 {
		t.Errorf("%d frames are done by the gate, of 10 that came through it", done)
	}
	r.Stop(0)
	log.want(t, 1, "notice: connection 'one': 20 record(s) staged by Asterisk's last moments are being sent")
	log.want(t, 1, "error: connection 'gone': 3 record(s) from Asterisk's last moments dropped")
	r.TakeRest(slabs) // after the end: no effect
}

// Records in memory lost with Asterisk must not count as left for the next start.
func TestStop_DiskFails_CountsOnlyLastingFramesAsLeft(t *testing.T) {
	for _, lasting := range []bool{false, true} {
		t.Run(fmt.Sprint("lasting=", lasting), func(t *testing.T) {
			dir := filepath.Join(t.TempDir(), "file")
			if err := os.WriteFile(dir, nil, 0o600); err != nil {
				t.Fatal(err)
			}
			r := start(t, newLines())
			r.configure(section("one", refusedAddress(t), onDisk, "spool_dir = "+dir))
			s := r.open("one")
			var slab []byte
			for _, f := range numbered("t", "k", 0, 5) {
				slab = frametest.Append(slab, f)
			}
			s.HeldFrames.Add(5)
			r.Take(s.id, ingest.Range{Frames: slab, Stays: true, Lasting: lasting})
			r.Stop(0)
			want := uint32(frame.Done)
			if lasting {
				want = frame.Ready
			}
			for i, state := range states(slab) {
				if state != want {
					t.Errorf("frame %d: its state is %#x, want %#x", i, state, want)
				}
			}
		})
	}
}

// A new engine continues with the folder of Asterisk's process and does not remove the folder.
func TestStart_StageFolderGiven_UsesIt(t *testing.T) {
	spool := t.TempDir()
	asterisk, err := ingest.NewRun(ingest.Base, spool)
	if err != nil {
		t.Fatal(err)
	}
	content := slabOfFrames("one", 0, numbered("t", "k", 0, 3)...)
	if err := os.WriteFile(filepath.Join(asterisk.Folder(), "slab-1"), content, 0o600); err != nil {
		t.Fatal(err)
	}
	system := theSystem
	system.SpoolDir, system.StageFolder = spool, asterisk.Folder()
	log := newLines()
	r := &rig{Engine: Start(system, log), t: t, log: log}
	t.Cleanup(func() { r.Stop(0) })
	if got := r.StageFolder(); got != asterisk.Folder() {
		t.Errorf("the folder is %q, want %q", got, asterisk.Folder())
	}
	r.configure(section("one", refusedAddress(t), inMemory))
	if c := r.status("one").Totals; c.Accepted != 0 {
		t.Errorf("%d records of this run were taken for those of an earlier one", c.Accepted)
	}
	r.Stop(0)
	log.want(t, 1, "notice: 3 record(s) are left in shared memory for the next start")
	if n, err := asterisk.Close(); n != 3 || err != nil {
		t.Errorf("%d waiting, %v", n, err)
	}
	_ = os.RemoveAll(asterisk.Folder())
}

func TestNoSharedMemoryIsSaidOnce(t *testing.T) {
	log := newLines()
	r := startAt(t, log, "") // of a PBX with an unknown spool directory
	r.configure(section("one", refusedAddress(t), "durability = disk"), section("two", refusedAddress(t)))
	s, other := r.open("one"), r.open("two")
	r.configure(section("one", refusedAddress(t), "durability = disk", "linger_ms = 7"), section("two", refusedAddress(t)))
	log.want(t, 1, "warning: connection 'one': durability = disk", "lost when Asterisk is killed")
	if s.Shared.Load() != 0 || other.Shared.Load() != 0 {
		t.Error("a stage was told to use shared memory")
	}
}

// TestARemovedFolderIsNoticed verifies that the engine notices the removal of its folder: no later run can
// find such slabs. A session manager removes users' files in shared memory, for example.
func TestARemovedFolderIsNoticed(t *testing.T) {
	log, spool := newLines(), t.TempDir()
	r := startAt(t, log, spool)
	r.configure(section("one", refusedAddress(t), "durability = disk"), section("two", refusedAddress(t)))
	s := r.open("one")
	r.checkStage()
	if s.Shared.Load() != 1 {
		t.Fatal("nothing is to be in shared memory")
	}
	if err := os.RemoveAll(r.StageFolder()); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		r.checkStage()
	}
	if s.Shared.Load() != 0 {
		t.Error("the stage goes on using shared memory")
	}
	log.want(t, 1, "warning: connection 'one': durability = disk, but somebody has removed", "lost when Asterisk is killed")
	r.Stop(0)
	log.want(t, 1, "warning: ")
	if notes, _ := os.ReadDir(filepath.Join(spool, "kafka", ".staged")); len(notes) > 0 {
		t.Errorf("the spool directory still names %v", notes)
	}
}

func TestSharedMemoryFollowsTheConfiguration(t *testing.T) {
	log := newLines()
	r := startAt(t, log, t.TempDir())
	address := refusedAddress(t)
	r.configure(section("one", address))
	s := r.open("one")
	for _, durability := range []string{"disk", "memory", "disk", "overflow"} {
		r.configure(section("one", address, "durability = "+durability))
		if got := s.Shared.Load() == 1; got != (durability == "disk") {
			t.Errorf("durability = %s: shared is %v", durability, got)
		}
	}
	// The stage found no room.
	s.Unshared.Store(3)
	s.put(numbered("t", "k", 0, 3)...)
	s.put(numbered("t", "k", 3, 4)...)
	log.want(t, 1, "connection 'one': 3 record(s) staged in memory that is lost when Asterisk is killed")
}

// A new engine does not log its predecessor's lines about a gate again.
func TestOpenProducer_GateOfEarlierEngine_LogsNothingTwice(t *testing.T) {
	log := newLines()
	r := start(t, log)
	r.configure(section("one", refusedAddress(t), inMemory))
	s := &stage{name: "one", rig: r, id: 1}
	s.HeldFrames.Of(&s.DoneFrames)
	s.HeldCharge.Of(&s.DoneCharge)
	s.Unshared.Store(5)
	if err := r.OpenProducer("one", s.id, &s.Gate); err != nil {
		t.Fatal(err)
	}
	s.put(numbered("t", "k", 0, 1)...)
	log.want(t, 0, "staged in memory that is lost")
	s.Unshared.Store(7)
	s.put(numbered("t", "k", 1, 2)...)
	log.want(t, 1, "connection 'one': 2 record(s) staged in memory that is lost")
}

// Records staged by another user stayed in shared memory without a line in the log.
func TestLeftovers_FolderOfOtherUser_SentAfterChownAndReload(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("SKIPPED: only root can give files to another user")
	}
	b := newBroker(t, kfake.SeedTopics(1, "t"))
	log, spool := newLines(), t.TempDir()
	folder := leave(t, spool, slabOfFrames("one", 0, numbered("t", "k", 0, 5)...))
	give := func(uid int) {
		files, _ := filepath.Glob(filepath.Join(folder, "*"))
		for _, path := range append(files, folder) {
			if err := os.Chown(path, uid, uid); err != nil {
				t.Fatal(err)
			}
		}
	}
	give(12345)
	r := startAt(t, log, spool)
	for range 2 {
		r.configure(section("one", b.address()))
	}
	log.want(t, 1, "warning: "+folder+" may hold records", "belongs to user 12345", "run chown -R 0 "+folder)
	give(0)
	r.configure(section("one", b.address()))
	b.consumed(t, "t", 5)
	eventually(t, "the folder is removed", func() bool { return !exists(folder) })
}
