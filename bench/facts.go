package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"runtime/debug"
	"strconv"
	"strings"
	"time"

	"reskafka/test/pbx"
)

// facts are the conditions of the results: the machine, versions, the date.
func (b *bench) facts(began time.Time) [][2]string {
	return [][2]string{
		{"date", began.UTC().Format("2006-01-02 15:04 UTC") + ", took " + time.Since(began).Round(time.Second).String()},
		{"command", "`scripts/bench " + strings.Join(os.Args[1:], " ") + "`, " + fmt.Sprint(b.rounds) + " rounds of each row, or more"},
		{"machine", machine()},
		{"Asterisk", b.asteriskVersion()},
		{"res_kafka", revision() + ", " + runtime.Version() + ", franz-go " + moduleVersion("github.com/twmb/franz-go")},
		{"librdkafka", librdkafkaVersion(b.root)},
		{"Apache Kafka", apacheVersion()},
	}
}

// machine is the processors, the memory and the kernel.
func machine() string {
	model := firstMatch("/proc/cpuinfo", `(?m)^model name\s*: (.*)$`)
	kernel := firstMatch("/proc/sys/kernel/osrelease", `^(.*)`)
	memory := firstMatch("/proc/meminfo", `(?m)^MemTotal:\s*(\d+) kB`)
	var kb int
	// The only error is a missing number, which then is 0.
	_, _ = fmt.Sscan(memory, &kb)
	return fmt.Sprintf("%d processors (%s), %d GB, Linux %s", runtime.NumCPU(), model, (kb+512*1024)/1024/1024, kernel)
}

// firstMatch returns the first match of the pattern's group in a file, or "unknown".
func firstMatch(file, pattern string) string {
	text, err := os.ReadFile(file)
	if err != nil {
		return "unknown"
	}
	found := regexp.MustCompile(pattern).FindSubmatch(text)
	if found == nil {
		return "unknown"
	}
	return strings.TrimSpace(string(found[1]))
}

// asteriskVersion asks the program itself.
func (b *bench) asteriskVersion() string {
	argv, err := pbx.Argv(b.root, "usr/sbin/asterisk")
	if err != nil {
		return "unknown"
	}
	printed, err := exec.Command(argv[0], append(argv[1:], "-V")...).Output()
	if err != nil {
		return "unknown"
	}
	return strings.TrimPrefix(strings.TrimSpace(string(printed)), "Asterisk ")
}

// librdkafkaVersion returns the version in the reference's header: two digits each of major, minor and
// revision.
func librdkafkaVersion(root string) string {
	text := firstMatch(filepath.Join(root, "usr/include/librdkafka/rdkafka.h"), `(?m)^#define RD_KAFKA_VERSION\s+0x([0-9a-f]{6})`)
	number, err := strconv.ParseUint(text, 16, 32)
	if err != nil {
		return "unknown"
	}
	return fmt.Sprintf("%d.%d.%d, Debian's", number>>16, number>>8&0xff, number&0xff)
}

// moduleVersion returns the version of a Go module in this command's build, and therefore the engine's.
func moduleVersion(path string) string {
	if info, found := debug.ReadBuildInfo(); found {
		for _, module := range info.Deps {
			if module.Path == path {
				return module.Version
			}
		}
	}
	return "unknown"
}

// revision returns the commit, with a mark for uncommitted changes.
func revision() string {
	printed, err := exec.Command("git", "describe", "--always", "--dirty", "--exclude=*").Output()
	if err != nil {
		return "of no commit"
	}
	return strings.TrimSpace(string(printed))
}

// apacheVersion is read from the name of the broker's jar.
func apacheVersion() string {
	jars, _ := filepath.Glob(filepath.Join(newestApache(), "kafka-clients-*.jar"))
	if newestApache() == "" || len(jars) == 0 {
		return "none"
	}
	return strings.TrimSuffix(strings.TrimPrefix(filepath.Base(jars[0]), "kafka-clients-"), ".jar")
}
