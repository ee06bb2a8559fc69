package faults

import (
	"fmt"
	"regexp"
	"strconv"
	"syscall"
	"testing"
)

var droppedEarlier = regexp.MustCompile(`earlier engine: (\d+)`)

// TestEngineKilledWhileRecordsExpire kills engines with expired records not yet in the log: the account of
// the last engine has each lost record.
func TestEngineKilledWhileRecordsExpire(t *testing.T) {
	run(t, row{
		name: rowNames[23], on: onEmbedded, plain: []mode{memory},
		options: func(size size) map[string]string {
			return map[string]string{"queue_buffering_max_messages": "1000000", "message_timeout_ms": ms(size.timeout)}
		},
		promise: map[mode]promise{memory: {text: "expired ones counted, whichever engine dropped them", killed: true, broken: func(o *outcome) (broken []string) {
			earlier, _ := strconv.Atoi(droppedEarlier.FindStringSubmatch(o.counted.why + " earlier engine: 0")[1])
			if earlier == 0 {
				broken = append(broken, "no engine dropped records before its death: this run shows nothing")
			}
			if o.counted.dropped < o.lost || o.counted.dropped > o.lost+o.duplicated {
				broken = append(broken, fmt.Sprintf("%d lost, %d counted as dropped (%s)", o.lost, o.counted.dropped, o.counted.why))
			}
			return broken
		}}},
		fault: func(s *site) {
			s.away()
			for range s.size.pick(2, 10) {
				s.lasts(2 * s.size.timeout)
				pid := s.engine()
				s.must(syscall.Kill(pid, syscall.SIGKILL))
				s.until("the engine's end", func() bool { return s.pbx.EnginePID() != pid })
				s.engine()
			}
			s.lasts(2 * s.size.timeout)
			s.back()
			s.acknowledged()
		},
	})
}
