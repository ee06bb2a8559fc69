// Command generate writes the documents rendered from tables: the sample files, the XML documentation and the
// tables of the README. With -check nothing is written, and a stale document ends the command with status 1.
package main

import (
	"bytes"
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"

	"reskafka/internal/docs"
)

const command = "go run ./internal/docs/generate"

func main() {
	check := flag.Bool("check", false, "write nothing, and fail if a document is stale")
	flag.Parse()
	root, err := moduleRoot()
	if err == nil {
		err = run(root, *check, os.Stdout)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

// errStale means that a check found a stale document.
var errStale = errors.New("generated documents are stale; run: " + command)

// run writes the stale documents below root, or reports them with check.
func run(root string, check bool, out io.Writer) error {
	outputs, err := docs.Outputs(root)
	if err != nil {
		return err
	}
	stale := false
	for _, o := range outputs {
		path := filepath.Join(root, filepath.FromSlash(o.Path))
		is, err := os.ReadFile(path)
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			return err
		}
		if err == nil && bytes.Equal(is, o.Content) {
			continue
		}
		if check {
			fmt.Fprintf(out, "%s is stale\n", o.Path)
			stale = true
			continue
		}
		if err := write(path, o.Content); err != nil {
			return err
		}
		fmt.Fprintf(out, "%s written\n", o.Path)
	}
	if stale {
		return errStale
	}
	return nil
}

func write(path string, content []byte) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, content, 0o644)
}

// moduleRoot finds the folder of go.mod at or above the working directory.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		parent := filepath.Dir(dir)
		if parent == dir {
			return "", errors.New("no go.mod here or above; run it inside the project")
		}
		dir = parent
	}
}
