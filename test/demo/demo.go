package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"reskafka/test/pbx"
)

// Where make builds and installs for tests and demo, from the top of the checkout.
const (
	buildDir   = "build/private"
	installDir = "build/private/install"
)

// cdrTopic is where cdr_kafka publishes by default.
const cdrTopic = "asterisk_cdr"

// demo is the state of a run.
type demo struct {
	started time.Time
	keep    bool

	root    string // of the Asterisk
	dir     string // everything of this run
	broker  *pbx.Broker
	private *pbx.PBX
}

// run executes the steps and then ends all started processes, in reverse order.
func (d *demo) run(ctx context.Context) (err error) {
	if kept, err := readKept(); err == nil {
		return fmt.Errorf("one is running in %s; end it with: make demo-stop", kept.Dir)
	} else if !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "reskafka-demo-"); err != nil {
		return fmt.Errorf("making a directory: %w", err)
	}
	defer func() {
		if err != nil || !d.keep {
			err = errors.Join(err, d.end())
		}
	}()
	for _, step := range []struct {
		title string
		run   func(context.Context) error
	}{
		{"Preparing an Asterisk to run", d.provision},
		{"Building and installing into " + installDir, d.build},
		{"Starting a development broker", d.startBroker},
		{"Starting a private Asterisk with res_kafka and cdr_kafka", d.startAsterisk},
		{"Making a call", d.call},
		{"Waiting for its record, with kcat", d.showRecord},
		{"Asking Asterisk about Kafka", d.askAsterisk},
		{"Reading what was sent by hand, with kcat", d.showSent},
	} {
		d.say(step.title)
		if err := step.run(ctx); err != nil {
			return fmt.Errorf("%s: %w", strings.ToLower(step.title), err)
		}
	}
	if d.keep {
		return d.leaveRunning()
	}
	d.say("Done; ending Asterisk and the broker (KEEP=1 make demo leaves them running)")
	return nil
}

// end stops the processes and removes the directory.
func (d *demo) end() error {
	var errs []error
	if d.private != nil {
		errs = append(errs, d.private.Stop(pbx.Now))
	}
	if d.broker != nil {
		errs = append(errs, d.broker.Stop())
	}
	return errors.Join(append(errs, os.RemoveAll(d.dir))...)
}

// say begins a step.
func (d *demo) say(text string) {
	fmt.Printf("\n[%5.1f s] %s\n", time.Since(d.started).Seconds(), text)
}

// show prints a command and its answer, indented.
func show(prompt, command, answer string) {
	fmt.Printf("\n  %s %s\n", prompt, command)
	for line := range strings.Lines(strings.TrimRight(answer, "\n")) {
		fmt.Println(strings.TrimRight("  "+line, " \n"))
	}
}

func (d *demo) provision(ctx context.Context) error {
	cmd := exec.CommandContext(ctx, "scripts/provision")
	cmd.Stderr = os.Stderr
	printed, err := cmd.Output()
	if err != nil {
		return err
	}
	d.root = strings.TrimSpace(string(printed))
	fmt.Printf("  %s\n", d.root)
	return nil
}

func (d *demo) build(ctx context.Context) error {
	install, err := filepath.Abs(installDir)
	if err != nil {
		return err
	}
	cmd := exec.CommandContext(ctx, "make", "--no-print-directory", "-j2", "install", "ASTERISK_ROOT="+d.root,
		"BUILD="+buildDir, "DESTDIR="+install)
	for _, variable := range os.Environ() {
		// Variables of the calling make are not for this make.
		if !strings.HasPrefix(variable, "MAKE") && !strings.HasPrefix(variable, "MFLAGS=") {
			cmd.Env = append(cmd.Env, variable)
		}
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	return cmd.Run()
}

func (d *demo) startBroker(ctx context.Context) error {
	var err error
	d.broker, err = pbx.StartBroker(ctx, pbx.BrokerConfig{
		Command:    filepath.Join(buildDir, "reskafka"),
		Dir:        filepath.Join(d.dir, "broker"),
		Partitions: 3,
		Detach:     d.keep,
	})
	if err != nil {
		return err
	}
	fmt.Printf("  reskafka dev-broker on %s, process %d\n", d.broker.Address, d.broker.PID())
	// A consumer does not create a topic; a producer's request for metadata does.
	_, err = pbx.Kcat(ctx, d.root, "-L", "-b", d.broker.Address, "-t", cdrTopic)
	return err
}

func (d *demo) startAsterisk(ctx context.Context) error {
	files := map[string]string{
		"kafka.conf": fmt.Sprintf("[general]\n\n[demo]\ntype = connection\nbrokers = %s\nclient_id = demo\n",
			d.broker.Address),
		"cdr_kafka.conf": "[global]\nconnection = demo\ntopic = " + cdrTopic + "\nkey = linkedid\nloguniqueid = yes\n",
		"extensions.conf": "[demo]\nexten => s,1,Answer()\n same => n,Set(CDR(campaign)=demo)\n" +
			" same => n,Hangup()\n",
	}
	for _, name := range []string{"kafka.conf", "cdr_kafka.conf"} {
		show("#", name, files[name])
	}
	install, err := filepath.Abs(installDir)
	if err != nil {
		return err
	}
	d.private, err = pbx.New(pbx.Config{
		Dir:     filepath.Join(d.dir, "asterisk"),
		Root:    d.root,
		Install: install,
		Modules: append(pbx.StockModules(), "res_kafka", "cdr_kafka"),
		Files:   files,
		Detach:  d.keep,
	})
	if err != nil {
		return err
	}
	if err := d.private.Start(ctx); err != nil {
		return err
	}
	fmt.Printf("\n  %s, process %d\n", d.root+"/usr/sbin/asterisk", d.private.PID())
	return d.checkModules()
}

// checkModules checks that both modules run, and otherwise shows the log: a declined load is no failure.
func (d *demo) checkModules() error {
	shown, err := d.private.CLI("module show like kafka")
	if err != nil {
		return err
	}
	show("asterisk*CLI>", "module show like kafka", shown)
	for _, module := range []string{"res_kafka.so", "cdr_kafka.so"} {
		_, after, _ := strings.Cut(shown, module)
		if line, _, _ := strings.Cut(after, "\n"); !strings.Contains(line, "Running") || strings.Contains(line, "Not Running") {
			return fmt.Errorf("%s does not run; Asterisk logged\n  %s", module,
				strings.Join(d.private.LogLines(), "\n  "))
		}
	}
	return nil
}

func (d *demo) call(context.Context) error {
	const command = "channel originate Local/s@demo application Echo"
	answer, err := d.private.CLI(command)
	show("asterisk*CLI>", command, answer)
	return err
}

func (d *demo) showRecord(ctx context.Context) error {
	return d.readOne(ctx, cdrTopic)
}

func (d *demo) askAsterisk(context.Context) error {
	for _, command := range []string{
		"kafka show status",
		"kafka show connection demo",
		`kafka test send connection demo topic demo message "hello world"`,
	} {
		answer, err := d.private.CLI(command)
		if err != nil {
			return err
		}
		show("asterisk*CLI>", command, answer)
		if strings.Contains(answer, "No such command") {
			return fmt.Errorf("asterisk does not know %q", command)
		}
	}
	return nil
}

func (d *demo) showSent(ctx context.Context) error {
	return d.readOne(ctx, "demo")
}

// readTimeout is the limit for the arrival of a record, far above the usual time.
const readTimeout = 30 * time.Second

// readOne waits for the first record of a topic and shows the record.
func (d *demo) readOne(ctx context.Context, topic string) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	args := []string{"-C", "-b", d.broker.Address, "-t", topic, "-o", "beginning", "-c", "1", "-J", "-q"}
	printed, err := pbx.Kcat(ctx, d.root, args...)
	if err != nil {
		return fmt.Errorf("%w\nAsterisk logged\n  %s", err, strings.Join(d.private.LogLines(), "\n  "))
	}
	text, err := renderRecord([]byte(printed))
	if err != nil {
		return err
	}
	show("$", "kcat "+strings.Join(args, " "), text)
	return nil
}
