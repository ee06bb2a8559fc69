package pbx

import (
	"bytes"
	"context"
	"debug/elf"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Argv returns the command line for a program of a root directory, such as "usr/bin/kcat", from outside the
// root: the root's loader, with the root's libraries. For the root "/" the program is called directly.
func Argv(root, program string) ([]string, error) {
	path := filepath.Join(root, program)
	if filepath.Clean(root) == "/" {
		if _, err := os.Stat(path); err != nil {
			return nil, fmt.Errorf("finding the program: %w", err)
		}
		return []string{path}, nil
	}
	root, err := filepath.Abs(root)
	if err != nil {
		return nil, fmt.Errorf("finding the root: %w", err)
	}
	loader, err := interpreter(filepath.Join(root, program))
	if err != nil {
		return nil, fmt.Errorf("finding the loader of %s: %w", path, err)
	}
	var libraries []string
	for _, pattern := range []string{"usr/lib/*-linux-*", "lib/*-linux-*", "usr/lib64", "lib64", "usr/lib", "lib"} {
		// The only error is a malformed pattern.
		found, _ := filepath.Glob(filepath.Join(root, pattern))
		libraries = append(libraries, found...)
	}
	return []string{
		filepath.Join(root, loader), "--library-path", strings.Join(libraries, ":"), filepath.Join(root, program),
	}, nil
}

// interpreter returns the loader named in an ELF program, as a path inside the root.
func interpreter(path string) (string, error) {
	file, err := elf.Open(path)
	if err != nil {
		return "", err
	}
	defer file.Close()
	section := file.Section(".interp")
	if section == nil {
		return "", errors.New("it names none")
	}
	data, err := section.Data()
	if err != nil {
		return "", err
	}
	return string(bytes.TrimRight(data, "\x00")), nil
}

// Kcat runs kcat, an independent Kafka client, and returns the output. The kcat is the root's or, if missing,
// the one in PATH. Kcat blocks until the end of kcat or ctx.
func Kcat(ctx context.Context, root string, args ...string) (string, error) {
	argv, err := KcatArgv(root)
	if err != nil {
		return "", err
	}
	argv = append(argv, args...)
	cmd := exec.CommandContext(ctx, argv[0], argv[1:]...)
	var stdout, stderr bytes.Buffer
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err := cmd.Run(); err != nil {
		return stdout.String(), fmt.Errorf("running kcat %s: %w: %s", strings.Join(args, " "), err,
			strings.TrimSpace(stderr.String()))
	}
	return stdout.String(), nil
}

// KcatArgv returns the command line of kcat, or exec.ErrNotFound. root may be empty.
func KcatArgv(root string) ([]string, error) {
	if root != "" {
		if argv, err := Argv(root, "usr/bin/kcat"); err == nil {
			return argv, nil
		}
	}
	path, err := exec.LookPath("kcat")
	if err != nil {
		return nil, fmt.Errorf("finding kcat: %w", err)
	}
	return []string{path}, nil
}

// FreePort returns a TCP port of 127.0.0.1 without a listener a moment ago.
func FreePort() (int, error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("finding a free port: %w", err)
	}
	defer listener.Close()
	return listener.Addr().(*net.TCPAddr).Port, nil
}
