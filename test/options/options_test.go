package options

import (
	"bytes"
	"flag"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"reskafka/internal/config"
)

var update = flag.Bool("update", false, "write the document")

// TestOptions verifies that every row's effect occurs with its option and not without.
func TestOptions(t *testing.T) {
	for i := range Rows {
		row := &Rows[i]
		t.Run(row.Name(), func(t *testing.T) {
			t.Parallel()
			row.Check(t, Fake, true)
		})
	}
}

// TestEveryOptionHasARow compares the rows with the tables of kafka.conf.
func TestEveryOptionHasARow(t *testing.T) {
	rows, names := map[string]bool{}, map[string]bool{}
	for i := range Rows {
		r := &Rows[i]
		rows[r.Option] = true
		if r.Effect == "" || r.Where == "" || r.holds == nil || (r.Instead == nil) != (r.Why == "") {
			t.Errorf("the row of %s is not complete", r.Name())
		}
		if names[r.Name()] {
			t.Errorf("there are two rows of %s", r.Name())
		}
		names[r.Name()] = true
	}
	known := map[string]bool{}
	for _, section := range config.KafkaFile.Sections {
		for _, o := range section.Options {
			known[o.Name] = true
			if !rows[o.Name] {
				t.Errorf("%s has no row", o.Name)
			}
		}
	}
	for name := range rows {
		if !known[name] {
			t.Errorf("%s has a row and is no option", name)
		}
	}
}

// TestOtherTestsAreThere verifies that the tests named in the document exist.
func TestOtherTestsAreThere(t *testing.T) {
	for i := range Rows {
		folder := ""
		for item := range strings.SplitSeq(Rows[i].Beyond, ", ") {
			name := item
			if before, after, ok := strings.Cut(item, " "); ok && strings.Contains(before, "/") {
				folder, name = before, after
			}
			name, _, _ = strings.Cut(name, " ")
			if name != "" && !mentioned(t, "../../"+folder, name) {
				t.Errorf("%s: there is no %s in %s", Rows[i].Name(), name, folder)
			}
		}
	}
}

// mentioned reports whether a file of that name, or with that word inside, is below a folder.
func mentioned(t *testing.T, folder, name string) bool {
	t.Helper()
	found := false
	err := filepath.WalkDir(folder, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() || found {
			return err
		}
		text, err := os.ReadFile(path)
		found = strings.HasPrefix(entry.Name(), name) || bytes.Contains(text, []byte(name+"(")) || bytes.Contains(text, []byte("("+name+","))
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	return found
}

// TestDocument holds the document to the table.
func TestDocument(t *testing.T) {
	const path = "../../documentation/options-tested.md"
	if *update {
		if err := os.WriteFile(path, []byte(Document()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	is, err := os.ReadFile(path)
	if err != nil || string(is) != Document() {
		t.Errorf("%s is not what the table says (%v); run: go test ./test/options -run TestDocument -update", path, err)
	}
}
