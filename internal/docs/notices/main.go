// Command notices prints the licences of all libraries linked into the engine and the reskafka command: BSD
// and MIT require these texts beside the programs.
package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// linked are the installed programs.
var linked = []string{"./cmd/reskafka"}

func main() {
	if err := write(os.Stdout, "."); err != nil {
		fmt.Fprintln(os.Stderr, "notices:", err)
		os.Exit(1)
	}
}

// listed is a package in the output of `go list`.
type listed struct {
	ImportPath string
	Dir        string
	Standard   bool
	Module     *struct {
		Path, Version, Dir string
		Main               bool
	}
}

// notice is a licence and the packages under it.
type notice struct {
	text string
	of   []string
}

// write prints the notices of the repository at top.
func write(w io.Writer, top string) error {
	goroot, err := command(top, "env", "GOROOT")
	if err != nil {
		return err
	}
	version, err := command(top, "env", "GOVERSION")
	if err != nil {
		return err
	}
	var all []notice
	if err := add(&all, filepath.Join(strings.TrimSpace(goroot), "LICENSE"), "Go's runtime and standard library, "+strings.TrimSpace(version)); err != nil {
		return err
	}
	packages, err := command(top, append([]string{"list", "-deps", "-json=ImportPath,Dir,Standard,Module"}, linked...)...)
	if err != nil {
		return err
	}
	for decoder := json.NewDecoder(strings.NewReader(packages)); ; {
		var p listed
		if err := decoder.Decode(&p); errors.Is(err, io.EOF) {
			break
		} else if err != nil {
			return fmt.Errorf("reading what go list printed: %w", err)
		}
		if p.Standard || p.Module == nil || p.Module.Main {
			continue
		}
		if err := addPackage(&all, p); err != nil {
			return err
		}
	}
	_, _ = fmt.Fprintln(w, "reskafka is linked with the following, whose licences ask for these notices.")
	for _, n := range all {
		_, _ = fmt.Fprintf(w, "\n%s\n%s\n\n%s\n", strings.Repeat("=", 78), strings.Join(n.of, "\n"), n.text)
	}
	return nil
}

// addPackage adds the licences of a package, from the package's folder up to the module's folder.
func addPackage(all *[]notice, p listed) error {
	found := false
	for dir := p.Dir; ; dir = filepath.Dir(dir) {
		files, err := filepath.Glob(filepath.Join(dir, "LICEN[SC]E*"))
		if err != nil {
			return err
		}
		for _, file := range files {
			of := p.Module.Path + " " + p.Module.Version
			if dir != p.Module.Dir {
				rel, err := filepath.Rel(p.Module.Dir, dir)
				if err != nil {
					return err
				}
				of += ", " + filepath.ToSlash(rel)
			}
			if err := add(all, file, of); err != nil {
				return err
			}
			found = true
		}
		if dir == p.Module.Dir {
			break
		}
	}
	if !found {
		return fmt.Errorf("%s has no licence", p.ImportPath)
	}
	return nil
}

// add adds a licence, or another package of a known licence.
func add(all *[]notice, file, of string) error {
	b, err := os.ReadFile(file)
	if err != nil {
		return err
	}
	text := strings.TrimSpace(string(b))
	i := slices.IndexFunc(*all, func(n notice) bool { return n.text == text })
	if i < 0 {
		*all = append(*all, notice{text: text})
		i = len(*all) - 1
	}
	if n := &(*all)[i]; !slices.Contains(n.of, of) {
		n.of = append(n.of, of)
	}
	return nil
}

func command(dir string, args ...string) (string, error) {
	cmd := exec.Command("go", args...)
	cmd.Dir, cmd.Stderr = dir, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("go %s: %w", args[0], err)
	}
	return string(out), nil
}
