package docs

import (
	"bytes"
	"encoding/xml"
	"errors"
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"reskafka/internal/config"
	"reskafka/internal/config/configtest"
)

// root is the project's root, seen from here.
var root = filepath.Join("..", "..")

// The committed documents equal the rendered documents.
func TestDocumentsAreUpToDate(t *testing.T) {
	outputs, err := Outputs(root)
	if err != nil {
		t.Fatal(err)
	}
	if len(outputs) < 4 {
		t.Errorf("%d documents", len(outputs))
	}
	for _, o := range outputs {
		is, err := os.ReadFile(filepath.Join(root, filepath.FromSlash(o.Path)))
		if err != nil || !bytes.Equal(is, o.Content) {
			t.Errorf("%s is stale (%v); run: go run ./internal/docs/generate", o.Path, err)
		}
	}
}

// parsers reads each file like its module, and counts the configured connections or sources.
var parsers = map[string]func([]config.Entry) (int, []config.Problem){
	"kafka.conf": func(entries []config.Entry) (int, []config.Problem) {
		cfg, problems := config.ParseKafka(entries)
		if cfg == nil {
			return 0, problems
		}
		return len(cfg.Connections), problems
	},
	"cdr_kafka.conf": func(entries []config.Entry) (int, []config.Problem) {
		cfg, problems := config.ParseCDR(entries)
		if cfg == nil {
			return 0, problems
		}
		return 1, problems
	},
}

var optionLine = regexp.MustCompile(`(?m)^;(\[|[a-z_]+ = )`)

// A sample loads unchanged and with every option enabled, and names every option of the table.
func TestSamplesLoad(t *testing.T) {
	for _, f := range config.Files() {
		parse := parsers[f.Name]
		if parse == nil {
			t.Errorf("%s: nobody reads it here", f.Name)
			continue
		}
		sample := string(Sample(f))
		_, problems := parse(configtest.Read(sample))
		for _, p := range problems {
			t.Errorf("as it is: %s", p)
		}
		used := optionLine.ReplaceAllString(sample, "$1")
		entries := configtest.Read(used)
		configured, problems := parse(entries)
		for _, p := range problems {
			if p.Severity == config.Error || !strings.Contains(p.Text, "is not used, because") {
				t.Errorf("with every option: %s", p)
			}
		}
		if configured == 0 {
			t.Errorf("%s configures nothing", f.Name)
		}
		for _, s := range f.Sections {
			for _, o := range s.Options {
				if !contains(entries, s, o) {
					t.Errorf("%s.sample lacks [%s] %s", f.Name, s.Name, o.Name)
				}
			}
		}
		for line := range strings.Lines(sample) {
			if len(line) > 80 && !strings.Contains(line, "://") {
				t.Errorf("%s.sample: line of %d columns: %s", f.Name, len(line)-1, line)
			}
		}
	}
}

// The installed samples work together: the connection of the call records exists in kafka.conf.
func TestSamples_AsInstalled_NameTheSameConnection(t *testing.T) {
	kafka, problems := config.ParseKafka(configtest.Read(string(Sample(&config.KafkaFile))))
	cdr, more := config.ParseCDR(configtest.Read(string(Sample(&config.CDRFile))))
	if len(problems)+len(more) > 0 || len(kafka.Connections) != 1 || kafka.Connections[0].Name != cdr.Connection {
		t.Errorf("connections %v, call records go to %q; problems %v %v", kafka.Connections, cdr.Connection, problems, more)
	}
}

func contains(entries []config.Entry, s config.Section, o *config.Info) bool {
	name := s.Name
	if s.Typed {
		name = s.Example
	}
	for _, e := range entries {
		if e.Section == name && e.Name == o.Name {
			return true
		}
	}
	return false
}

// The XML is well-formed and has every option with its default.
func TestXML(t *testing.T) {
	for _, f := range config.Files() {
		defaults := map[string]string{}
		decoder := xml.NewDecoder(bytes.NewReader(XML(f)))
		for {
			token, err := decoder.Token()
			if errors.Is(err, io.EOF) {
				break
			}
			if err != nil {
				t.Fatalf("%s: %v", f.Module, err)
			}
			element, ok := token.(xml.StartElement)
			if !ok || element.Name.Local != "configOption" {
				continue
			}
			attributes := map[string]string{}
			for _, a := range element.Attr {
				attributes[a.Name.Local] = a.Value
			}
			defaults[attributes["name"]] = attributes["default"]
		}
		for _, s := range f.Sections {
			for _, o := range s.Options {
				if value, there := defaults[o.Name]; !there || value != o.Default {
					t.Errorf("%s: %s has default %q, want %q", f.Module, o.Name, value, o.Default)
				}
			}
		}
	}
}

// The XML describes the effect of a reload where it is not immediate.
func TestXMLSaysWhatAReloadDoes(t *testing.T) {
	text := string(XML(&config.KafkaFile))
	for _, s := range config.KafkaFile.Sections {
		for _, o := range s.Options {
			_, after, _ := strings.Cut(text, `<configOption name="`+o.Name+`"`)
			own, _, _ := strings.Cut(after, "</configOption>")
			anew, later := strings.Contains(own, "builds the clients"), strings.Contains(own, "when the module is loaded next")
			if anew != (o.Reload == config.Reconnects && !o.Required) || later != (o.Reload == config.NextLoad) {
				t.Errorf("%s: %s", o.Name, own)
			}
		}
	}
}

func TestMarkdown(t *testing.T) {
	text := string(Markdown(&config.KafkaFile))
	for _, row := range []string{
		"| `enabled` | `yes` | yes or no | Whether the module offers its connections |",
		"| `type` | required | connection | What the section is |",
		"| `linger_ms` | `5` | 0 to 60000 ms | How long a message may wait for others to share a request with |",
		"| `ssl_key_location` | none | PEM file | Key of that certificate |",
	} {
		if !strings.Contains(text, "\n"+row+"\n") {
			t.Errorf("no row %s in\n%s", row, text)
		}
	}
	if got := cell("a|b<c"); got != `a\|b&lt;c` {
		t.Errorf("cell %q", got)
	}
}

func TestInsert(t *testing.T) {
	const text = "a\n<!-- options:begin -->\nold\n<!-- options:end -->\nz\n"
	got, err := insert([]byte(text), "options", []byte("new\n"))
	if want := strings.Replace(text, "old", "new", 1); err != nil || string(got) != want {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := insert([]byte(text), "cdr-options", []byte("new\n")); err != nil || string(got) != text {
		t.Errorf("without the marker: got %q, %v", got, err)
	}
	if _, err := insert([]byte("<!-- options:begin -->\nold\n"), "options", nil); err == nil {
		t.Error("a marker without an end was taken")
	}
	for name, want := range map[string]string{"kafka.conf": "options", "cdr_kafka.conf": "cdr-options"} {
		if got := marker(&config.File{Name: name}); got != want {
			t.Errorf("marker of %s: %q", name, got)
		}
	}
}

// The README's tables are rendered at its markers.
func TestOutputsFillTheREADME(t *testing.T) {
	dir := t.TempDir()
	const text = "# x\n<!-- options:begin -->\n<!-- options:end -->\n" +
		"<!-- cdr-options:begin -->\n<!-- cdr-options:end -->\n"
	if err := os.WriteFile(filepath.Join(dir, "README.md"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	outputs, err := Outputs(dir)
	if err != nil {
		t.Fatal(err)
	}
	last := outputs[len(outputs)-1]
	if last.Path != "README.md" || !bytes.Contains(last.Content, []byte("`linger_ms`")) ||
		!bytes.Contains(last.Content, []byte("`loguniqueid`")) {
		t.Errorf("%s: %s", last.Path, last.Content)
	}
}

// TestTopicBits_EachByte_AsConfigSays guards the module's own check of topic names.
func TestTopicBits_EachByte_AsConfigSays(t *testing.T) {
	bits := topicBits()
	for b := range 256 {
		if (bits[b/64]>>(b%64)&1 == 1) != config.TopicByte(byte(b)) {
			t.Errorf("byte %d: %v", b, !config.TopicByte(byte(b)))
		}
	}
}
