// Package docs renders documents from tables. From the options in internal/config: the sample files, the XML
// documentation for Asterisk and the tables of the README. From the messages in internal/boundary: their C
// header and their Go types. From internal/metrics: the page of the metrics. The package only renders text;
// the command in generate writes the files.
package docs

import (
	"bytes"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"reskafka/internal/config"
)

// Output is a generated document.
type Output struct {
	Path    string // from the root of the project, with slashes
	Content []byte
}

// Outputs returns every document below root in its correct state. In README.md only the text between the
// markers is generated; a README without a marker, or a missing README, is left alone.
func Outputs(root string) ([]Output, error) {
	var out []Output
	for _, f := range config.Files() {
		out = append(out,
			Output{"conf/" + f.Name + ".sample", Sample(f)},
			Output{"documentation/" + f.Module + "_config-en_US.xml", XML(f)})
	}
	code, err := boundaryOutputs()
	if err != nil {
		return nil, err
	}
	out = append(out, code...)
	out = append(out, Output{metricsPath, Metrics()})
	readme, err := os.ReadFile(filepath.Join(root, "README.md"))
	if os.IsNotExist(err) {
		return out, nil
	}
	if err != nil {
		return nil, err
	}
	for _, f := range config.Files() {
		if readme, err = insert(readme, marker(f), Markdown(f)); err != nil {
			return nil, fmt.Errorf("filling README.md: %w", err)
		}
	}
	return append(out, Output{"README.md", readme}), nil
}

// marker names the place in the README for the options of a file: options for kafka.conf, cdr-options for
// cdr_kafka.conf.
func marker(f *config.File) string {
	return strings.ReplaceAll(strings.TrimSuffix(f.Name, "kafka.conf"), "_", "-") + "options"
}

// insert replaces the text between the begin and the end of a marker.
func insert(text []byte, marker string, content []byte) ([]byte, error) {
	begin, end := []byte("<!-- "+marker+":begin -->\n"), []byte("<!-- "+marker+":end -->")
	before, rest, found := bytes.Cut(text, begin)
	if !found {
		return text, nil
	}
	_, after, found := bytes.Cut(rest, end)
	if !found {
		return nil, fmt.Errorf("%s has no %s", bytes.TrimSpace(begin), end)
	}
	return bytes.Join([][]byte{before, begin, content, end, after}, nil), nil
}

// accepted describes the accepted values of an option, with the unit.
func accepted(o *config.Info) string {
	if o.Kind == config.PEMFile {
		return "PEM file"
	}
	if o.Unit != "" {
		return o.Accepts() + " " + o.Unit
	}
	return o.Accepts()
}

// acceptsAnyText reports whether an option accepts any text, which needs no mention.
func acceptsAnyText(o *config.Info) bool {
	return (o.Kind == config.Text || o.Kind == config.SecretText) && o.Max == 0
}

// hasExplanations reports whether a word of an option has an explanation.
func hasExplanations(o *config.Info) bool {
	for _, w := range o.Words {
		if w.Short != "" {
			return true
		}
	}
	return false
}
