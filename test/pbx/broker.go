package pbx

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// BrokerConfig is the configuration of a development broker.
type BrokerConfig struct {
	Command    string // the reskafka command
	Dir        string // for data and complaints; created if missing
	Ports      []int  // a broker for each; 0 = a free port; nil = one broker at a free port
	Partitions int    // of topics created by use; 0 = the broker's default
	Swallow    bool   // records are acknowledged and not kept
	Detach     bool   // the broker outlives the starter
}

// Broker is a running `reskafka dev-broker`.
type Broker struct {
	Address string // host:port, several with commas between them
	cmd     *exec.Cmd
}

// StartBroker starts a broker with the data of an earlier broker in Dir, and waits until the broker is ready.
func StartBroker(ctx context.Context, config BrokerConfig) (*Broker, error) {
	if err := os.MkdirAll(config.Dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the broker's directory: %w", err)
	}
	complaints, err := os.Create(filepath.Join(config.Dir, "errors.log"))
	if err != nil {
		return nil, fmt.Errorf("making the broker's log: %w", err)
	}
	defer complaints.Close()
	ports := []string{"0"}
	if config.Ports != nil {
		ports = nil
		for _, port := range config.Ports {
			ports = append(ports, strconv.Itoa(port))
		}
	}
	args := []string{"dev-broker", "--port", strings.Join(ports, ",")}
	if config.Swallow {
		args = append(args, "--swallow")
	} else {
		args = append(args, "--data-dir", filepath.Join(config.Dir, "data"))
	}
	if config.Partitions > 0 {
		args = append(args, "--partitions", strconv.Itoa(config.Partitions))
	}
	cmd := exec.Command(config.Command, args...)
	cmd.Stderr = complaints
	// Outside the terminal's process group: Ctrl-C ends the starter, and the starter ends the broker.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if config.Detach {
		cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	}
	output, err := cmd.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("starting a broker: %w", err)
	}
	if err := cmd.Start(); err != nil {
		return nil, fmt.Errorf("starting a broker: %w", err)
	}
	b := &Broker{cmd: cmd}
	if b.Address, err = readAddress(ctx, output); err != nil {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		said, _ := os.ReadFile(complaints.Name())
		return nil, fmt.Errorf("%w: %s", err, strings.TrimSpace(string(said)))
	}
	return b, nil
}

// readAddress reads the line of a ready broker.
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

// PID is the broker's process id.
func (b *Broker) PID() int { return b.cmd.Process.Pid }

// Stop ends the broker and waits for the end.
func (b *Broker) Stop() error {
	if err := b.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("ending the broker: %w", err)
	}
	if err := b.cmd.Wait(); err != nil {
		return fmt.Errorf("ending the broker: %w", err)
	}
	return nil
}

// Record is a record in the form of kcat -J.
type Record struct {
	Topic     string   `json:"topic"`
	Partition int32    `json:"partition"`
	Offset    int64    `json:"offset"`
	Timestamp int64    `json:"ts"`      // milliseconds since 1970
	Headers   []string `json:"headers"` // name, value, name, value…
	Key       *string  `json:"key"`     // nil = null
	Payload   *string  `json:"payload"` // nil = null
}

// makeTopic requests a topic's metadata as a producer does, until the broker has created the topic: a
// consumer creates none, and fails during a creation.
func makeTopic(ctx context.Context, root, address, topic string) error {
	for {
		listed, err := Kcat(ctx, root, "-L", "-b", address, "-t", topic)
		if err != nil {
			return err
		}
		if !strings.Contains(listed, "with 0 partitions") && !strings.Contains(listed, "Broker: ") {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for topic %s: %w: %s", topic, ctx.Err(), listed)
		case <-time.After(50 * time.Millisecond):
		}
	}
}

// ReadTopic reads count records of a topic from the beginning with kcat, waiting until ctx ends. A missing
// topic is created if the broker allows. kcat's JSON damages a key or value other than UTF-8.
func ReadTopic(ctx context.Context, root, address, topic string, count int) ([]Record, error) {
	if err := makeTopic(ctx, root, address, topic); err != nil {
		return nil, err
	}
	printed, err := Kcat(ctx, root, "-C", "-q", "-J", "-b", address, "-t", topic, "-o", "beginning", "-c", strconv.Itoa(count))
	// The brokers of a cluster learn of a new topic one after the other.
	for err != nil && strings.Contains(err.Error(), "Unknown topic or partition") && ctx.Err() == nil {
		printed, err = Kcat(ctx, root, "-C", "-q", "-J", "-b", address, "-t", topic, "-o", "beginning", "-c", strconv.Itoa(count))
	}
	if err != nil {
		return nil, err
	}
	var records []Record
	for line := range strings.Lines(printed) {
		var r Record
		if err := json.Unmarshal([]byte(line), &r); err != nil {
			return nil, fmt.Errorf("reading kcat's output %q: %w", line, err)
		}
		records = append(records, r)
	}
	return records, nil
}
