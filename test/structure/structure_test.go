// Package structure checks the rules of the repository beyond the compiler's: the use of cgo, of Asterisk's
// types and of the Kafka client, the directions of imports, and the licences of the engine's libraries.
package structure

import (
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
)

const top = "../.."

// each calls visit for every file of the repository with a matching name.
func each(t *testing.T, pattern string, visit func(path string, text []byte)) {
	t.Helper()
	match, count := regexp.MustCompile(pattern), 0
	err := filepath.WalkDir(top, func(path string, entry fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name, _ := filepath.Rel(top, path)
		if entry.IsDir() && (name == "build" || name == ".git") {
			return filepath.SkipDir
		}
		if entry.IsDir() || !match.MatchString(name) {
			return nil
		}
		text, err := os.ReadFile(path)
		count++
		visit(filepath.ToSlash(name), text)
		return err
	})
	if err != nil || count == 0 {
		t.Fatalf("%d files match %s: %v", count, pattern, err)
	}
}

func imports(t *testing.T, path string, text []byte) []string {
	t.Helper()
	file, err := parser.ParseFile(token.NewFileSet(), path, text, parser.ImportsOnly)
	if err != nil {
		t.Fatal(err)
	}
	var paths []string
	for _, i := range file.Imports {
		paths = append(paths, strings.Trim(i.Path.Value, `"`))
	}
	return paths
}

// Only these folders may import packages that match the pattern.
var onlyIn = []struct {
	imported string
	folders  string
	why      string
}{
	{`^C$`, `^$`, "the engine is a process of its own, without C"},
	{`^github\.com/twmb/franz-go/pkg/kfake`, `^cmd/reskafka/|^test/(options|brokers|kafkatest)/|_test\.go$`, "the development broker is for people and tests"},
	{`^github\.com/`, `^internal/kafka/|^cmd/reskafka/|^test/(options|wire|brokers|kafkatest)/|^bench/|_test\.go$`, "the Kafka client's types stay in internal/kafka"},
	{`^reskafka/test/`, `^test/|^bench/|_test\.go$`, "what is for tests stays in tests"},
	{`^reskafka/internal/outbox$`, `^internal/(engine|outbox)/|^test/|_test\.go$`, "records are in internal/record; the outbox is for the engine alone"},
	{`^reskafka/cmd/`, `^cmd/`, "commands use packages, not the other way round"},
}

// Imports of our packages allowed to each package; an unlisted package may import none.
var uses = map[string][]string{
	"internal/engine": {"config", "console", "event", "frame", "host", "ingest", "kafka/admin", "kafka/client", "kafka/consume",
		"kafka/produce", "metrics", "outbox", "record", "spool", "throttle"},
	"internal/kafka/client":    {"config", "dns", "host", "metrics", "throttle"}, // and none of the three
	"internal/kafka/produce":   {"config", "dns", "host", "kafka/client", "record"},
	"internal/kafka/consume":   {"config", "host", "kafka/client", "metrics", "record", "throttle"},
	"internal/kafka/admin":     {"config", "host", "kafka/client"},
	"internal/dns":             {},
	"internal/event":           {"config", "host", "record"},
	"internal/console":         {"config", "host", "metrics"},
	"internal/docs":            {"boundary", "config", "metrics"},
	"internal/boundary":        {},
	"internal/config":          {},
	"internal/frame":           {},
	"internal/host":            {},
	"internal/ingest":          {"frame", "host", "rooted"},
	"internal/memlimit":        {},
	"internal/metrics":         {},
	"internal/outbox":          {"metrics", "record", "spool"},
	"internal/record":          {},
	"internal/rooted":          {},
	"internal/spool":           {"host", "metrics", "record", "rooted", "throttle", "uptime"},
	"internal/throttle":        {},
	"internal/uptime":          {},
	"internal/serve":           {"boundary", "config", "console", "engine", "host", "ingest", "kafka/consume", "memlimit"},
	"internal/serve/servetest": {"boundary", "frame", "frame/frametest"},
}

func TestImports(t *testing.T) {
	each(t, `\.go$`, func(path string, text []byte) {
		for _, imported := range imports(t, path, text) {
			for _, rule := range onlyIn {
				if regexp.MustCompile(rule.imported).MatchString(imported) && !regexp.MustCompile(rule.folders).MatchString(path) {
					t.Errorf("%s imports %q: %s", path, imported, rule.why)
				}
			}
			folder := filepath.ToSlash(filepath.Dir(path))
			used, ours := strings.CutPrefix(imported, "reskafka/internal/")
			if allowed, known := uses[folder]; ours && !strings.HasSuffix(path, "_test.go") && strings.HasPrefix(folder, "internal/") && !slices.Contains(allowed, used) {
				if !known && strings.HasPrefix(used, strings.Split(folder, "/")[1]) {
					continue // a helper in a folder below the package
				}
				t.Errorf("%s imports %q, which the table in test/structure does not allow", path, imported)
			}
		}
	})
}

func TestFilesAreReadOnlyWhereTheyShouldBe(t *testing.T) {
	each(t, `^internal/(outbox|record|frame|event|console|engine|throttle|host)/.*\.go$`, func(path string, text []byte) {
		if strings.HasSuffix(path, "_test.go") || path == "internal/event/zone.go" || path == "internal/host/guard.go" {
			return
		}
		for _, imported := range imports(t, path, text) {
			if imported == "os" || imported == "net" || imported == "io/ioutil" {
				t.Errorf("%s imports %q: files and the network are for internal/config, internal/kafka and the spool", path, imported)
			}
		}
	})
}

// The spool changes files through its FS only, so a test can make every change fail. It maps no file, because
// an access to a missing page would end the engine.
func TestSpoolFiles(t *testing.T) {
	changes := regexp.MustCompile(`\bos\.(OpenFile|Create|WriteFile|Rename|Remove|RemoveAll|Truncate|Mkdir|Link|Symlink)\(`)
	each(t, `^internal/spool/.*\.go$`, func(path string, text []byte) {
		if strings.HasSuffix(path, "_test.go") {
			return
		}
		if found := changes.Find(text); found != nil && path != "internal/spool/fs.go" && path != "internal/spool/lock.go" {
			t.Errorf("%s calls %s...: the spool's files are changed through FS", path, found)
		}
		if regexp.MustCompile(`\b[Mm]map\(`).Match(text) {
			t.Errorf("%s maps a file into memory", path)
		}
		for _, imported := range imports(t, path, text) {
			if imported == "net" || imported == "unsafe" || imported == "os/exec" {
				t.Errorf("%s imports %q, the spool is files and nothing else", path, imported)
			}
		}
	})
}

func TestAsteriskStaysInModules(t *testing.T) {
	header := regexp.MustCompile(`#\s*include\s*[<"]asterisk(\.h|/)`)
	allowed := regexp.MustCompile(`^(modules|test/modules|bench/modules|bench/reference|include/asterisk)/`)
	each(t, `\.(c|h|go)$`, func(path string, text []byte) {
		if header.Match(text) && !allowed.MatchString(path) {
			t.Errorf("%s includes Asterisk's headers; they belong into modules/", path)
		}
	})
	// Only res_kafka.so knows the engine; every other module uses asterisk/kafka*.h.
	engine := regexp.MustCompile(`#\s*include\s*[<"](\.\./)*boundary/`)
	each(t, `^((test|bench)/)?modules/[^/]+\.c$|^bench/reference/`, func(path string, text []byte) {
		if engine.Match(text) {
			t.Errorf("%s includes a header of boundary/, which is for modules/res_kafka/", path)
		}
	})
}

// librdkafka is the reference of measurements, and in no installed file.
func TestOnlyTheReferenceUsesLibrdkafka(t *testing.T) {
	includes := regexp.MustCompile(`#\s*include\s*[<"]librdkafka|\bLDFLAGS:.*-lrdkafka`)
	found := false
	each(t, `\.(c|h|go)$`, func(path string, text []byte) {
		if includes.Match(text) && !strings.HasPrefix(path, "bench/reference/") {
			t.Errorf("%s uses librdkafka", path)
		} else {
			found = found || includes.Match(text)
		}
	})
	each(t, `(^|/)Makefile$`, func(path string, text []byte) {
		for line := range strings.Lines(string(text)) {
			if strings.Contains(line, "-lrdkafka") && !strings.HasPrefix(line, "reference/res_kafka_libs ") {
				t.Errorf("%s links librdkafka: %s", path, strings.TrimSpace(line))
			}
		}
	})
	if !found {
		t.Error("the reference does not use librdkafka either: this test looks for the wrong thing")
	}
}

// The libraries linked into the engine, with their licences: a phrase unique to the licence. Asterisk is
// under the GPL version 2, which excludes Apache-2.0; a library with folders under Apache-2.0 names the
// folders.
var libraries = map[string]struct {
	licence string
	phrase  string
	not     []string // folders under an incompatible licence
}{
	"github.com/twmb/franz-go":           {"BSD-3-Clause", "Neither the name of", nil},
	"github.com/twmb/franz-go/pkg/kmsg":  {"BSD-3-Clause", "Neither the name of", nil},
	"github.com/twmb/franz-go/pkg/kfake": {"BSD-3-Clause", "Neither the name of", nil}, // of dev-broker
	"github.com/klauspost/compress":      {"BSD-3-Clause", "Neither the name of Google Inc. nor the names of", []string{"gzhttp"}},
	"github.com/pierrec/lz4/v4":          {"BSD-3-Clause", "Neither the name of", nil},
}

func TestLicences(t *testing.T) {
	cmd := exec.Command("go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}}\t{{.Dir}}\t{{$.ImportPath}}{{end}}{{end}}", "./cmd/reskafka")
	cmd.Dir = top
	printed, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	seen := map[string]bool{}
	for line := range strings.Lines(string(printed)) {
		fields := strings.Split(strings.TrimSpace(line), "\t")
		if len(fields) != 3 {
			continue
		}
		module, dir, linked := fields[0], fields[1], fields[2]
		seen[module] = true
		library, known := libraries[module]
		if !known {
			t.Errorf("the engine links %s, whose licence nobody has looked at (table in test/structure)", module)
			continue
		}
		text, err := os.ReadFile(licenceFile(dir))
		if err != nil {
			t.Fatal(err)
		}
		if !strings.Contains(strings.Join(strings.Fields(string(text)), " "), library.phrase) {
			t.Errorf("the licence of %s does not read like %s", module, library.licence)
		}
		if strings.Contains(string(text), "Apache License") && library.not == nil {
			t.Errorf("the licence of %s speaks of the Apache License", module)
		}
		for _, folder := range library.not {
			if strings.HasPrefix(linked, module+"/"+folder) {
				t.Errorf("the engine links %s, which is not compatible with the GPL version 2", linked)
			}
		}
	}
	if len(seen) != len(libraries) {
		t.Errorf("the engine links %d libraries, the table has %d: remove what is not used", len(seen), len(libraries))
	}
}

// licenceFile returns the licence of a module, perhaps from the top folder of a repository with several
// modules.
func licenceFile(dir string) string {
	for range 3 {
		for _, name := range []string{"LICENSE", "LICENSE.txt", "LICENSE.md", "COPYING"} {
			if _, err := os.Stat(filepath.Join(dir, name)); err == nil {
				return filepath.Join(dir, name)
			}
		}
		dir = filepath.Dir(dir)
	}
	return filepath.Join(dir, "LICENSE")
}

// Every source file of ours has a description at its top, and no trace of the author's machine.
func TestSources(t *testing.T) {
	packages := map[string]bool{}
	each(t, `\.go$`, func(path string, text []byte) {
		folder := filepath.Dir(path)
		packages[folder] = packages[folder] || regexp.MustCompile(`(?m)^// Package \w+ |^// Command \w+ |^// [A-Z].*\npackage main`).Match(text)
	})
	for folder, documented := range packages {
		if !documented {
			t.Errorf("no file of %s says what the package is about", folder)
		}
	}
	each(t, `\.(c|h)$`, func(path string, text []byte) {
		if !strings.HasPrefix(string(text), "/*") || !strings.Contains(string(text), "GNU General Public License") {
			t.Errorf("%s has no head that says what it is and under which licence", path)
		}
	})
}

// TestMetrics_EachRow_IsCountedAndShown checks that every metric of the table is counted, and that the
// console prints every counted metric.
func TestMetrics_EachRow_IsCountedAndShown(t *testing.T) {
	row := regexp.MustCompile(`(?m)^\t([A-Z]\w+) += (?:counter|gauge)\(`)
	use := regexp.MustCompile(`\bmetrics\.([A-Z]\w+)`)
	var rows []string
	counted, shown := map[string]bool{}, map[string]bool{}
	each(t, `^internal/.*\.go$`, func(path string, text []byte) {
		switch {
		case path == "internal/metrics/table.go":
			for _, m := range row.FindAllSubmatch(text, -1) {
				rows = append(rows, string(m[1]))
			}
		case strings.HasSuffix(path, "_test.go"):
		default:
			for _, m := range use.FindAllSubmatch(text, -1) {
				if strings.HasPrefix(path, "internal/console/") {
					shown[string(m[1])] = true
				} else {
					counted[string(m[1])] = true
				}
			}
		}
	})
	if len(rows) == 0 {
		t.Fatal("the table is empty")
	}
	for _, name := range rows {
		if !counted[name] || !shown[name] {
			t.Errorf("metrics.%s: counted %t, shown by the console %t", name, counted[name], shown[name])
		}
	}
}
