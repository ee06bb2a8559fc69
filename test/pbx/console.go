package pbx

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"time"
)

// CLI runs one command of the Asterisk console and returns the output, without verbose messages. CLI blocks
// until the command's end, a minute at most. An unknown or failed command is no error: the text reports the
// failure.
//
// CLI uses Asterisk's control socket like `asterisk -rx` (main/asterisk.c, ast_remotecontrol and netconsole),
// without a process for each command: tests poll many times a second.
func (p *PBX) CLI(command string) (string, error) {
	printed, err := p.ask(command)
	if err != nil {
		return printed, fmt.Errorf("running %q: %w", command, errors.Join(err, p.Crashed()))
	}
	return printed, nil
}

func (p *PBX) ask(command string) (string, error) {
	console, err := net.DialTimeout("unix", p.path("run", "asterisk.ctl"), cliTimeout)
	if err != nil {
		return "", err
	}
	defer console.Close()
	if err := console.SetDeadline(time.Now().Add(cliTimeout)); err != nil {
		return "", err
	}
	// "Cli quit after": Asterisk closes the connection when the command has ended. Each command ends with a
	// NUL.
	if _, err := io.WriteString(console, "cli quit after "+command+"\x00"); err != nil {
		return "", err
	}
	answer := bufio.NewReader(console)
	// The first line is host/pid/version.
	if _, err := answer.ReadString('\n'); err != nil {
		return "", fmt.Errorf("hearing who answers: %w", err)
	}
	var printed strings.Builder
	for {
		line, err := answer.ReadString('\n')
		// A verbose message begins with a byte outside ASCII (VERBOSE_MAGIC2LEVEL in logger.h).
		if line != "" && line[0] < 0x80 {
			printed.WriteString(line)
		}
		if err == io.EOF {
			return printed.String(), nil
		}
		if err != nil {
			return printed.String(), err
		}
	}
}

// Console is an open connection to Asterisk's control socket. CLI needs a thread and a descriptor of Asterisk
// for each command, and Asterisk may be short of both.
type Console struct {
	conn    net.Conn
	reader  *bufio.Reader
	command int
}

// OpenConsole connects to Asterisk. The caller closes the console.
func (p *PBX) OpenConsole() (*Console, error) {
	conn, err := net.DialTimeout("unix", p.path("run", "asterisk.ctl"), cliTimeout)
	if err != nil {
		return nil, fmt.Errorf("opening a console: %w", err)
	}
	c := &Console{conn: conn, reader: bufio.NewReader(conn)}
	_ = conn.SetDeadline(time.Now().Add(cliTimeout))
	if _, err := c.reader.ReadString('\n'); err != nil {
		_ = conn.Close()
		return nil, fmt.Errorf("opening a console: hearing who answers: %w", err)
	}
	return c, nil
}

// Run runs one command and returns the output, with verbose messages in between. Run blocks until the
// command's end, a minute at most. Not safe for concurrent use.
func (c *Console) Run(command string) (string, error) {
	_ = c.conn.SetDeadline(time.Now().Add(cliTimeout))
	// Nothing marks the end of an answer, so an unknown command follows: its answer names the command.
	c.command++
	end := fmt.Sprintf("end-of-command-%d", c.command)
	for _, line := range []string{command, end} {
		if _, err := io.WriteString(c.conn, line+"\x00"); err != nil {
			return "", fmt.Errorf("running %q: %w", command, err)
		}
	}
	var printed strings.Builder
	for {
		line, err := c.reader.ReadString('\n')
		if strings.Contains(line, end) {
			return printed.String(), nil
		}
		printed.WriteString(line)
		if err != nil {
			return printed.String(), fmt.Errorf("running %q: %w", command, err)
		}
	}
}

// Close closes the connection.
func (c *Console) Close() { _ = c.conn.Close() }
