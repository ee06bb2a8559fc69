// Package memlimit finds the memory limit of this process, above which the kernel kills.
package memlimit

import (
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// Limit is the memory limit of a process.
type Limit struct {
	Bytes int64  // 0 = unknown
	By    string // source of the limit, for a log line
}

// Read returns the lowest limit of this process: of its control groups, version 1 or 2, or the machine's
// memory. root is a prefix for every path; empty except in tests.
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

// group is a control group with a memory limit.
type group struct {
	mount, folder string // folder is mount or below it
	files         []string
}

// groups returns the groups of this process.
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

// locate returns the group at path in the mounted hierarchies. A container may see only a part of a
// hierarchy, with its own group as the top.
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

// number reads a number of bytes from a file. ok = false: no file, or no limit.
func number(path string) (bytes int64, ok bool) {
	text, err := os.ReadFile(path)
	if err != nil {
		return 0, false
	}
	bytes, err = strconv.ParseInt(strings.TrimSpace(string(text)), 10, 64)
	return bytes, err == nil && bytes > 0
}
