package frame_test

import (
	"encoding/binary"
	"errors"
	"slices"
	"strings"
	"testing"

	"reskafka/internal/frame"
	"reskafka/internal/frame/frametest"
)

// three returns a slab's file with frames of the keys 1, 2 and 3, and the offsets of the frames.
func three() (file []byte, at [3]int) {
	var frames []byte
	for i := range at {
		at[i] = len(frames)
		frames = append(frames, build([]byte{'1' + byte(i)}, []byte("value"))...)
	}
	file = frametest.Slab("calls", 3, 77, frames)
	start := int(binary.NativeEndian.Uint32(file[frame.SlabFrames:]))
	for i := range at {
		at[i] += start
	}
	return file, at
}

// keys returns the keys of the ready frames, with a question mark for each damaged frame.
func keys(t *testing.T, s *frame.Slab, file []byte) (keys string) {
	t.Helper()
	err := s.Each(func(f *frame.Frame) {
		keys += string(f.Key)
		if state := frame.State(file, f.At).Load(); state != frame.Ready {
			t.Errorf("at byte %d stands %#x", f.At, state)
		}
	}, func(*frame.Frame, error) { keys += "?" })
	if err != nil {
		t.Error(err)
	}
	return keys
}

func TestSlabGivesWhatIsReady(t *testing.T) {
	file, at := three()
	s, err := frame.ReadSlab(file, int64(len(file)))
	if err != nil {
		t.Fatal(err)
	}
	if s.Label != "calls" || s.Stage != 3 || s.First != 77 {
		t.Errorf("head read wrongly: %+v", s)
	}
	if got := keys(t, s, file); got != "123" || s.Waiting() != 3 {
		t.Errorf("frames %s, %d waiting", got, s.Waiting())
	}
	clone := s.Clone()
	// Nothing is known of an unfinished frame, not even its end.
	frametest.SetWhole(file, at[1], false)
	binary.NativeEndian.PutUint32(file[at[1]:], 0)
	binary.NativeEndian.PutUint32(file[at[1]+frame.HeaderLength:], 1<<31)
	if got := keys(t, s, file); got != "13" || s.Waiting() != 2 {
		t.Errorf("frames %s, %d waiting, one unfinished", got, s.Waiting())
	}
	frame.State(file, at[0]).Store(frame.Done)
	if got := keys(t, s, file); got != "3" || s.Waiting() != 1 {
		t.Errorf("frames %s, %d waiting, one unfinished and one done", got, s.Waiting())
	}
	binary.NativeEndian.PutUint32(file[at[2]+frame.HeaderSize+frame.HeadKeyLength:], 1<<31)
	if got := keys(t, s, file); got != "?" || s.Waiting() != 1 {
		t.Errorf("frames %s, %d waiting, the last one damaged", got, s.Waiting())
	}
	if clone.Waiting() != 3 {
		t.Error("the clone changes with the file")
	}
}

func TestReadSlabRefuses(t *testing.T) {
	for name, row := range map[string]struct {
		spoil func(file []byte) []byte
		want  string
	}{
		"a file without a head":   {func(f []byte) []byte { return f[:frame.SlabHeadSize-1] }, "not a slab yet"},
		"one that was never made": {func(f []byte) []byte { clear(f); return f }, "not a slab yet"},
		"other magic":             {func(f []byte) []byte { f[0]++; return f }, "it begins with"},
		"other layout":            {func(f []byte) []byte { f[frame.SlabLayout]++; return f }, "layout is number 3"},
		"frames in the head":      {func(f []byte) []byte { f[frame.SlabFrames], f[frame.SlabFrames+1] = 16, 0; return f }, "past the end"},
		"frames askew":            {func(f []byte) []byte { f[frame.SlabFrames] += 4; return f }, "past the end"},
		"frames behind the end":   {func(f []byte) []byte { f[frame.SlabFrames+3] = 1; return f }, "past the end"},
		"a shortened file":        {func(f []byte) []byte { return f[:len(f)-8] }, "past the end"},
		"a label without end": {func(f []byte) []byte {
			for i := frame.SlabLabel; i < frame.SlabWhole; i++ {
				f[i] = 'x'
			}
			return f
		}, "no end"},
	} {
		file, _ := three()
		file = row.spoil(slices.Clip(file))
		_, err := frame.ReadSlab(file, int64(len(file)))
		if err == nil || !strings.Contains(err.Error(), row.want) || errors.Is(err, frame.ErrNoSlab) != strings.Contains(row.want, "yet") {
			t.Errorf("%s: %v, want %q", name, err, row.want)
		}
	}
}

// A frame inside another frame, or behind the end of the file, ends the readable part.
func TestSlabWithFramesThatCannotBe(t *testing.T) {
	for name, where := range map[string]func(at [3]int, file []byte) int{
		"inside the second":   func(at [3]int, _ []byte) int { return at[1] + frame.SlabGranule },
		"in the last granule": func(_ [3]int, file []byte) int { return len(file) - frame.SlabGranule },
	} {
		file, at := three()
		frametest.SetWhole(file, where(at, file), true)
		s, err := frame.ReadSlab(file, int64(len(file)))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Each(func(*frame.Frame) {}, func(*frame.Frame, error) {}); err == nil || !strings.Contains(err.Error(), "past the end") {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzReadSlab checks the reader's invariants for any bytes: no panic, no slice beyond the file, and the same
// count of frames as Each.
func FuzzReadSlab(f *testing.F) {
	file, at := three()
	f.Add(file)
	f.Add(file[:len(file)-8])
	frametest.SetState(file, at[0], frame.Done)
	f.Add(slices.Clone(file))
	frametest.SetWhole(file, at[1], false)
	f.Add(slices.Clone(file))
	f.Fuzz(func(t *testing.T, file []byte) {
		s, err := frame.ReadSlab(file, int64(len(file)))
		if err != nil {
			return
		}
		total, frames := frame.SlabHeadSize, 0
		_ = s.Clone().Each(func(fr *frame.Frame) {
			frames++
			total += frame.HeaderSize + frame.HeadSize + len(fr.Topic) + len(fr.Key) + len(fr.Value)
			_ = fr.EachField(func(fd frame.Field) { total += frame.FieldSize + len(fd.Name) + len(fd.Value) })
			_ = file[fr.At+frame.HeaderState:][:4]
		}, func(*frame.Frame, error) { frames, total = frames+1, total+frame.HeaderSize })
		if total > len(file) || frames != s.Waiting() {
			t.Errorf("read %d bytes and %d frames, %d waiting, out of a file of %d", total, frames, s.Waiting(), len(file))
		}
	})
}
