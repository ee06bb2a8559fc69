package host

import (
	"fmt"
	"strings"
	"syscall"
)

// limitWords returns the kernel's limit behind a log line, with its value and the remedy; empty without a
// limit. It reads the line's text, because many errors are wrapped in words before the log.
func limitWords(text string) string {
	var limit syscall.Rlimit
	switch {
	case strings.Contains(text, syscall.EMFILE.Error()):
		if syscall.Getrlimit(syscall.RLIMIT_NOFILE, &limit) == nil {
			return fmt.Sprintf("; RLIMIT_NOFILE of the engine is %d, raise maxfiles in asterisk.conf, or LimitNOFILE= in Asterisk's unit",
				limit.Cur)
		}
	case strings.Contains(text, syscall.ENOMEM.Error()):
		const infinity = ^uint64(0)
		if syscall.Getrlimit(syscall.RLIMIT_AS, &limit) == nil && limit.Cur != infinity {
			return fmt.Sprintf("; RLIMIT_AS of the engine is %d MB, raise LimitAS= or MemoryMax= in Asterisk's unit", limit.Cur>>20)
		}
	}
	return ""
}
