package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
)

// broker is a running `reskafka dev-broker`.
type broker struct {
	cmd     *exec.Cmd
	address string
}

// startBroker starts the command that was built and waits for the line that says it is ready. What it complains about
// goes to a file in dir. A detached one outlives this process.
func startBroker(ctx context.Context, dir string, detach bool) (*broker, error) {
	if err := os.Mkdir(dir, 0o700); err != nil {
		return nil, err
	}
	complaints, err := os.Create(filepath.Join(dir, "errors.log"))
	if err != nil {
		return nil, err
	}
	defer complaints.Close()
	cmd := exec.Command(filepath.Join(buildDir, "reskafka"), "dev-broker", "--port", "0", "--partitions", "3",
		"--data-dir", filepath.Join(dir, "data"))
	cmd.Stderr = complaints
	// Out of the terminal's process group, so that Ctrl-C ends the demo and the demo ends the broker.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if detach {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	b := &broker{cmd: cmd}
	if b.address, err = readAddress(ctx, output); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		said, _ := os.ReadFile(complaints.Name())
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(said)))
	}
	return b, nil
}

// readAddress reads the ready line.
func readAddress(ctx context.Context, output io.ReadCloser) (string, error) {
	stop := context.AfterFunc(ctx, func() { _ = output.Close() })
	defer stop()
	line, err := bufio.NewReader(output).ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("waiting for the broker to be ready: %w", errors.Join(err, ctx.Err()))
	}
	address, found := strings.CutPrefix(strings.TrimSpace(line), "dev-broker listening on ")
	if !found {
		return "", fmt.Errorf("the broker says %q", line)
	}
	return address, nil
}

func (b *broker) pid() int { return b.cmd.Process.Pid }

func (b *broker) stop() error {
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("ending the broker: %w", err)
	}
	if err := b.cmd.Wait(); err != nil {
		return fmt.Errorf("ending the broker: %w", err)
	}
	return nil
}
