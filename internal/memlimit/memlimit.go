// Package memlimit finds out how much memory this process may have before the kernel kills it.
package memlimit

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Limit is what a process may have.
type Limit struct {
	Bytes int64  // 0 = it is not known
	By    string // what sets it, for a log line
}

// Read returns the lowest limit of this process: of the control groups that it is in, version 1 or 2, or the machine's
// memory. root is put before every path that is read; it is empty but in tests.
func Read(root string) (lowest Limit) {
	lowest = machine(root)
	defer func() {
		if lowest.Bytes == math.MaxInt64 {
			lowest.Bytes = 0
		}
	}()
	for _, g := range groups(root) {
		for folder := g.folder; ; folder = filepath.Dir(folder) {
			for _, file := range g.files {
				path := filepath.Join(folder, file)
				if bytes, ok := number(filepath.Join(root, path)); ok && bytes < lowest.Bytes {
					lowest = Limit{bytes, "the memory control group (" + path + ")"}
				}
			}
			if folder == g.mount || len(folder) <= 1 {
				break
			}
		}
	}
	return lowest
}

// machine returns how much memory there is.
func machine(root string) Limit {
	text, _ := os.ReadFile(filepath.Join(root, "/proc/meminfo"))
	for line := range strings.Lines(string(text)) {
		fields := strings.Fields(line)
		if len(fields) == 3 && fields[0] == "MemTotal:" {
			if kilobytes, err := strconv.ParseInt(fields[1], 10, 64); err == nil {
				return Limit{kilobytes << 10, "the machine's memory"}
			}
		}
	}
	return Limit{Bytes: math.MaxInt64}
}

// group is a control group that limits memory.
type group struct {
	mount, folder string // folder is mount or below it
	files         []string
}

// groups returns those that this process is in.
func groups(root string) []group {
	mounts, _ := os.ReadFile(filepath.Join(root, "/proc/self/mountinfo"))
	own, _ := os.ReadFile(filepath.Join(root, "/proc/self/cgroup"))
	var found []group
	for line := range strings.Lines(string(own)) {
		id, rest, _ := strings.Cut(strings.TrimSuffix(line, "\n"), ":")
		controllers, path, ok := strings.Cut(rest, ":")
		switch {
		case !ok:
		case id == "0" && controllers == "":
			found = append(found, locate(string(mounts), path, []string{"memory.max", "memory.high"}, func(kind, _ string) bool {
				return kind == "cgroup2"
			})...)
		case contains(controllers, "memory"):
			found = append(found, locate(string(mounts), path, []string{"memory.limit_in_bytes"}, func(kind, options string) bool {
				return kind == "cgroup" && contains(options, "memory")
			})...)
		}
	}
	return found
}

func contains(list, word string) bool { return strings.Contains(","+list+",", ","+word+",") }

// locate returns the group at path of the hierarchies that are mounted. A container may see a part of the hierarchy only, and
// its own group as the top of it.
func locate(mounts, path string, files []string, matches func(kind, options string) bool) []group {
	var found []group
	for line := range strings.Lines(mounts) {
		before, after, ok := strings.Cut(line, " - ")
		fields, behind := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(behind) < 3 || !matches(behind[0], behind[2]) {
			continue
		}
		top, mount := fields[3], fields[4]
		below, inside := strings.CutPrefix(path, strings.TrimSuffix(top, "/"))
		if !inside || strings.Contains(below, "..") {
			below = ""
		}
		found = append(found, group{mount, filepath.Join(mount, below), files})
	}
	return found
}

// number reads a file with a number of bytes in it. ok = false: there is none, or it says that there is no limit.
func number(path string) (bytes int64, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	bytes, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return bytes, err == nil && bytes > 0
}
