package structure

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
)

// noAsterisk creates a root with the files needed by the Makefile, for questions without a build.
func noAsterisk(t *testing.T) string {
	t.Helper()
	root := t.TempDir()
	header := filepath.Join(root, "usr/include/asterisk/module.h")
	if err := os.MkdirAll(filepath.Dir(header), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(header, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	return root
}

// makes runs a Makefile of the repository in its folder, and returns the output.
func makes(t *testing.T, args ...string) string {
	t.Helper()
	cmd := exec.Command("make", args...)
	cmd.Dir = top
	for _, setting := range os.Environ() { // not a sub-make
		if name, _, _ := strings.Cut(setting, "="); !strings.HasPrefix(name, "MAKE") && name != "MFLAGS" && !strings.HasSuffix(name, "FLAGS") {
			cmd.Env = append(cmd.Env, setting)
		}
	}
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("make %v: %v\n%s", args, err, out)
	}
	return string(out)
}

// Changed linker flags in the Makefile did not rebuild the engine.
func TestMakefile_FlagsChanged_RebuildsAll(t *testing.T) {
	makefile, err := os.ReadFile(filepath.Join(top, "Makefile"))
	if err != nil {
		t.Fatal(err)
	}
	root, build := noAsterisk(t), t.TempDir()
	flags := func(makefile string) string {
		t.Helper()
		file := filepath.Join(t.TempDir(), "Makefile")
		if err := os.WriteFile(file, []byte(makefile), 0o644); err != nil {
			t.Fatal(err)
		}
		makes(t, "-s", "-f", file, "ASTERISK_ROOT="+root, "BUILD="+build, filepath.Join(build, "obj/flags"))
		text, err := os.ReadFile(filepath.Join(build, "obj/flags"))
		if err != nil {
			t.Fatal(err)
		}
		return string(text)
	}
	before := flags(string(makefile))
	if again := flags(string(makefile)); again != before {
		t.Errorf("the same flags are\n%s and\n%s", before, again)
	}
	for _, c := range [][2]string{
		{"-Wl,-z,relro", "-Wl,-z,norelro"},             // the modules'
		{"CGO_ENABLED=0 $(GO)", "CGO_ENABLED=1 $(GO)"}, // the engine and the command
		{"-fstack-protector-strong", "-fno-stack-protector"},
	} {
		changed := strings.ReplaceAll(string(makefile), c[0], c[1])
		if changed == string(makefile) {
			t.Errorf("the Makefile has no %q", c[0])
		} else if flags(changed) == before {
			t.Errorf("%q in place of %q rebuilds nothing", c[1], c[0])
		}
	}
}

// Asterisk's headers use blocks when the compiler is clang.
func TestMakefile_CompilerIsClang_Blocks(t *testing.T) {
	for define, want := range map[string]bool{"#define __clang__ 1": true, "#define __GNUC__ 15": false} {
		compiler := filepath.Join(t.TempDir(), "cc")
		if err := os.WriteFile(compiler, []byte("#!/bin/sh\necho '"+define+"'\n"), 0o755); err != nil {
			t.Fatal(err)
		}
		build := t.TempDir()
		makes(t, "-s", "ASTERISK_ROOT="+noAsterisk(t), "CC="+compiler, "BUILD="+build, filepath.Join(build, "obj/flags"))
		text, err := os.ReadFile(filepath.Join(build, "obj/flags"))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.Contains(string(text), "-fblocks"); got != want {
			t.Errorf("%s: -fblocks is %v", define, got)
		}
	}
}

// BSD and MIT require the notices beside the programs.
func TestNotices_EachLinkedModule_Named(t *testing.T) {
	run := func(args ...string) string {
		cmd := exec.Command("go", args...)
		cmd.Dir = top
		out, err := cmd.Output()
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	notices := run("run", "./internal/docs/notices")
	modules := run("list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Path}} {{.Version}}{{end}}{{end}}", "./cmd/reskafka")
	for line := range strings.Lines(modules) {
		if module := strings.TrimSpace(line); !strings.Contains(notices, module) {
			t.Errorf("there is no notice of %s", module)
		}
	}
	for _, want := range []string{"Copyright 2009 The Go Authors", "Travis Bischel", "Pierre Curto", "MIT License", "Snappy-Go Authors"} {
		if !strings.Contains(notices, want) {
			t.Errorf("the notices do not have %q", want)
		}
	}
	if !strings.Contains(makes(t, "-n", "install", "ASTERISK_ROOT="+noAsterisk(t), "BUILD="+t.TempDir()), "NOTICES") {
		t.Error("make install does not install them")
	}
}
