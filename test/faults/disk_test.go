package faults

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"reskafka/test/child"
	"reskafka/test/pbx"
)

const (
	smallDiskMB = 48 // how large the small disk is
	leftMB      = 2  // free space for each lane on a nearly full disk
)

// newSmallDisk mounts a file system in memory in new user and mount namespaces, without privileges if the
// kernel allows. Processes of the same user reach the disk by the holding process. An error gives the reason
// for a missing disk.
func newSmallDisk(t *testing.T) (dir string, err error) {
	mount := filepath.Join(t.TempDir(), "disk")
	if err := os.Mkdir(mount, 0o700); err != nil {
		return "", err
	}
	script := fmt.Sprintf(`mount -t tmpfs -o size=%dm,mode=700 faults "$0" && echo mounted && exec cat`, smallDiskMB)
	holder := exec.Command("unshare", "-rm", "sh", "-c", script, mount)
	holder.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	var complaints bytes.Buffer
	holder.Stderr = &complaints
	input, err := holder.StdinPipe()
	if err != nil {
		return "", err
	}
	output, err := holder.StdoutPipe()
	if err != nil {
		return "", err
	}
	over := make(chan struct{})
	if err := child.Start(holder, func(error) { close(over) }); err != nil {
		return "", err
	}
	end := func() {
		_ = input.Close()
		<-over
	}
	t.Cleanup(end)
	if line, err := bufio.NewReader(output).ReadString('\n'); err != nil || line != "mounted\n" {
		end() // so all complaints are there
		return "", fmt.Errorf("mounting a file system in a namespace: %w: %s", err, strings.TrimSpace(complaints.String()))
	}
	return filepath.Join("/proc", strconv.Itoa(holder.Process.Pid), "root", mount), nil
}

// ballast is a file that leaves the given space on the small disk.
func ballast(path string, left int) error {
	var disk syscall.Statfs_t
	if err := syscall.Statfs(filepath.Dir(path), &disk); err != nil {
		return err
	}
	file, err := os.Create(path)
	if err != nil {
		return err
	}
	defer file.Close()
	return syscall.Fallocate(int(file.Fd()), 0, 0, int64(disk.Bavail)*int64(disk.Bsize)-int64(left))
}

func TestDiskFull(t *testing.T) {
	dir, err := newSmallDisk(t)
	limit := "1024"
	if err != nil {
		// Second best: the disk is not full, the spool's own limit is reached.
		t.Logf("no small file system can be had here (%v): spool_max_mbytes is reached in its place", err)
		note("disk full: no small file system could be had (%v); spool_max_mbytes was reached in its place", err)
		dir, limit = t.TempDir(), strconv.Itoa(leftMB)
	}
	small := err == nil
	told := promise{text: "refused ones told to the caller, the rest 0 lost", broken: func(o *outcome) []string {
		broken := everything(o)
		if o.refused == 0 {
			broken = append(broken, "none refused: this run shows nothing")
		}
		return broken
	}}
	run(t, row{
		name: rowNames[7], on: onEmbedded, promise: map[mode]promise{overflow: told, disk: told},
		options: func(size) map[string]string {
			return map[string]string{"spool_dir": filepath.Join(dir, "spool"), "spool_max_mbytes": limit, "queue_buffering_max_messages": "1000"}
		},
		fault: func(s *site) {
			s.away()
			full := filepath.Join(dir, fmt.Sprintf("ballast-%d", sites.Load()))
			if small {
				s.must(ballast(full, leftMB<<20*len(s.lanes)))
			}
			for _, l := range s.lanes {
				s.until("the first refusal of "+l.name(), func() bool { return l.ledger.Refused() > 0 })
			}
			s.produced(s.size.around)
			if small {
				s.must(os.Remove(full))
				for _, l := range s.lanes {
					now := l.ledger.Accepted()
					s.until("room for "+l.name(), func() bool { return l.ledger.Accepted() > now+s.size.around/2 })
				}
			}
			s.back()
			s.acknowledged()
		},
	})
}

// marker begins every record in a segment; a checksum, the length of the rest, and the position follow
// (documentation/spool-format.md): 20 bytes in all.
var marker = []byte{0xF5, 'R', 'k', 0xA7}

const (
	frameHead = 20
	cellApart = 512 // between the two cells of the file "settled"
)

// frames lists where the records of a segment begin, and at last where the segment ends.
func frames(segment []byte) (starts []int) {
	for at := bytes.Index(segment, marker); at >= 0 && at+frameHead <= len(segment); {
		starts = append(starts, at)
		at += frameHead + int(binary.LittleEndian.Uint32(segment[at+8:]))
		if at > len(segment) || at+4 > len(segment) || !bytes.Equal(segment[at:at+4], marker) {
			return append(starts, at)
		}
	}
	return append(starts, len(segment))
}

// settledBefore reads a position: every earlier record of the log has an outcome.
func settledBefore(t *testing.T, dir string) (position uint64) {
	t.Helper()
	cells, err := os.ReadFile(filepath.Join(dir, "settled"))
	if err != nil {
		t.Fatal(err)
	}
	newest := uint64(0)
	for cell := range slices.Chunk(cells, cellApart) {
		if sequence := binary.LittleEndian.Uint64(cell[8:]); sequence >= newest {
			newest, position = sequence, binary.LittleEndian.Uint64(cell[16:])
		}
	}
	return position
}

// harm is damage to a record without an outcome.
type harm struct {
	message
	file string
	from int // the record's place in the file
	to   int
}

var numbered = regexp.MustCompile(`(\d+) (\d+) x`)

// damage flips bits of records in a lane's log, in the middle and in the head, and cuts off the end of the
// last segment inside a record. The damaged records are returned, except records with an outcome.
func (s *site) damage(l *lane) (harms []harm) {
	s.Helper()
	dir := filepath.Join(s.pbx.Dir(), "spool", "kafka", l.name(), "topics", l.topic)
	segments, err := filepath.Glob(filepath.Join(dir, "*.seg"))
	if err != nil || len(segments) == 0 {
		s.Fatalf("no segments of %s: %v", l.name(), err)
	}
	slices.Sort(segments)
	settled := settledBefore(s.T, dir)
	for _, path := range segments {
		text, err := os.ReadFile(path)
		if err != nil {
			s.Fatal(err)
		}
		starts := frames(text)
		count := len(starts) - 1
		if count < 20 {
			continue
		}
		hit := func(n int) int {
			from, to := starts[n], starts[n+1]
			m := numbered.FindSubmatch(text[from:to])
			if m == nil {
				s.Fatalf("the record at byte %d of %s is none of ours", from, path)
			}
			if binary.LittleEndian.Uint64(text[from+12:]) >= settled {
				thread, _ := strconv.Atoi(string(m[1]))
				number, _ := strconv.Atoi(string(m[2]))
				harms = append(harms, harm{message{thread, number}, filepath.Base(path), from, to})
			}
			return from
		}
		// Neither the first nor the last records, apart from each other, and few enough for a log line each.
		for i, inside := range []int{frameHead + 60, 4, 8, 0} {
			text[hit(2+i*(count-6)/4)+inside] ^= 1 << rand.IntN(8)
		}
		if path == segments[len(segments)-1] {
			text = text[:hit(count-1)+frameHead+10]
		}
		s.must(os.WriteFile(path, text, 0o600))
	}
	return harms
}

var damageLogged = regexp.MustCompile(`WARNING.* spool: \S*/([^/ ]+) is damaged\S* at byte (\d+), for (\d+) bytes: (\d+) records are lost`)

// unreported lists the harms without a log line.
func (s *site) unreported(l *lane) (silent []string) {
	for _, h := range l.harms {
		told := slices.ContainsFunc(s.logged(damageLogged.String()), func(line string) bool {
			m := damageLogged.FindStringSubmatch(line)
			at, _ := strconv.Atoi(m[2])
			length, _ := strconv.Atoi(m[3])
			return m[1] == h.file && at < h.to && at+length > h.from && strings.Contains(line, l.topic)
		})
		if !told {
			silent = append(silent, fmt.Sprintf("%s at byte %d", h.file, h.from))
		}
	}
	return silent
}

func TestDamagedSpool(t *testing.T) {
	only := promise{text: "only the damaged records, reported", killed: true, broken: func(o *outcome) (broken []string) {
		hit := map[message]bool{}
		for _, h := range o.lane.harms {
			hit[h.message] = true
		}
		for _, m := range o.missed {
			if !hit[m] {
				broken = append(broken, fmt.Sprintf("message %v was not damaged and is lost", m))
			}
		}
		if len(hit) == 0 {
			broken = append(broken, "nothing was damaged: this run shows nothing")
		}
		if o.counted.damaged() != len(hit) {
			broken = append(broken, fmt.Sprintf("%d counted as damaged, %d were", o.counted.damaged(), len(hit)))
		}
		if delivered := len(hit) - o.lost; delivered > o.lane.inFlight {
			broken = append(broken, fmt.Sprintf("%d damaged records were delivered, only %d were in flight", delivered, o.lane.inFlight))
		}
		return append(broken, atMostInFlight(o)...)
	}}
	run(t, row{
		name: rowNames[8], on: onEmbedded, options: large(nil), promise: map[mode]promise{overflow: only, disk: only},
		fault: func(s *site) {
			s.away()
			s.produced(s.size.around)
			s.unload()
			s.must(s.pbx.Stop(pbx.Now))
			for _, l := range s.lanes {
				l.harms = s.damage(l)
			}
			s.boot()
			s.load()
			s.back()
			s.acknowledged()
			for _, l := range s.lanes {
				s.until("the log telling of all damage of "+l.name(), func() bool { return len(s.unreported(l)) == 0 })
			}
		},
	})
}

// damaged is the number of records dropped as damaged, from `kafka show connection`.
func (c count) damaged() int {
	m := regexp.MustCompile(`damaged[^:]*: (\d+)`).FindStringSubmatch(c.why)
	if m == nil {
		return 0
	}
	n, _ := strconv.Atoi(m[1])
	return n
}
