package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/twmb/franz-go/pkg/kfake"
)

var devBroker = command{
	name:    "dev-broker",
	summary: "Run a Kafka broker for development on this machine",
	usage: "[--port N[,N...]] [--data-dir DIR] [--partitions N] [--swallow] [--no-auto-topics] " +
		"[--user NAME:PASSWORD] [--acl NAME:RIGHT:TOPIC]",
	details: `It speaks the Kafka protocol in plaintext on localhost and creates topics when they are first used. It runs
until it gets SIGINT or SIGTERM. Once it is ready it prints
    dev-broker listening on 127.0.0.1:PORT

With several ports it is a cluster of as many brokers, each with its share of the partitions, and the line has the
addresses of all, with commas between them: --port 9092,9093,9094, or --port 0,0,0 for three free ports.

It is for development and tests, not for data anybody would miss:
- Without --data-dir everything is in memory and gone when it ends. With it, topics, records and the offsets of
  consumer groups are there again at the next start, also after kill -9, but a power cut may cost the last records.
- It grows without limit: old records are removed (once an hour) only from topics that have a retention or
  compaction option of their own, such as retention.ms, set when the topic was created or altered.
- Brokers of a cluster are one process and share one data directory: they come and go together, nothing is
  replicated, and whoever can connect may do everything.

To rehearse bad days: --no-auto-topics creates no topic by itself. --user has clients log in (sasl_plaintext; PLAIN,
SCRAM-SHA-256 or SCRAM-SHA-512); a wrong password is refused. With --acl a user may do what its rights say and nothing
else: --user pbx:secret --acl pbx:write:calls. Both may be given more than once.

With --swallow it acknowledges records without keeping them: topics and their end offsets are as they would be, and
there is nothing to read. That is for measuring producers, and takes no memory however long it runs.
`,
	setup: func(flags *flag.FlagSet) func(context.Context, environment) error {
		broker := &brokerOptions{ports: portList{9092}, users: userList{}}
		flags.Var(&broker.ports, "port", "TCP `port` to listen on, or ports with commas between them; 0 takes a free one")
		flags.StringVar(&broker.dataDir, "data-dir", "", "keep topics and records in this `directory`")
		flags.IntVar(&broker.partitions, "partitions", 1, "`number` of partitions a new topic gets")
		flags.BoolVar(&broker.noAutoTopics, "no-auto-topics", false, "create no topic when it is first used")
		flags.Var(broker.users, "user", "add a user, `name:password`; clients must then log in")
		flags.Var(&broker.rights, "acl", "grant a right, `name:right:topic`: read, write, create, describe or all, of a topic or *")
		flags.BoolVar(&broker.swallow, "swallow", false, "acknowledge records and keep none of them")
		return broker.run
	},
}

// brokerOptions is the command line of dev-broker.
type brokerOptions struct {
	ports      portList
	dataDir    string
	partitions int
	swallow    bool

	noAutoTopics bool
	users        userList
	rights       rightList
}

// portList is a flag: a port for each broker of the cluster.
type portList []int

func (p *portList) String() string {
	return strings.Trim(strings.ReplaceAll(fmt.Sprint(*p), " ", ","), "[]")
}

func (p *portList) Set(text string) error {
	var ports portList
	for part := range strings.SplitSeq(text, ",") {
		port, err := strconv.Atoi(strings.TrimSpace(part))
		if err != nil {
			return errors.New("want a number, or numbers with commas between them")
		}
		ports = append(ports, port)
	}
	*p = ports
	return nil
}

func (o *brokerOptions) run(ctx context.Context, env environment) error {
	if err := o.check(env.args); err != nil {
		return err
	}
	unlock, err := lockDataDir(o.dataDir)
	if err != nil {
		return err
	}
	defer unlock()
	cluster, err := o.start(env.stderr)
	if err != nil {
		return err
	}
	if _, err := fmt.Fprintf(env.stdout, "dev-broker listening on %s\n", strings.Join(cluster.ListenAddrs(), ",")); err != nil {
		cluster.Close()
		return fmt.Errorf("printing the addresses: %w", err)
	}
	<-ctx.Done()
	cluster.Close()
	return nil
}

func (o *brokerOptions) check(args []string) error {
	for i, port := range o.ports {
		switch {
		case port < 0 || port > 65535:
			return usagef("--port %d is not between 0 and 65535", port)
		case port != 0 && slices.Contains(o.ports[:i], port):
			return usagef("--port %s names %d twice", &o.ports, port)
		}
	}
	switch {
	case len(args) > 0:
		return usagef("unexpected argument %q", args[0])
	case o.swallow && o.dataDir != "":
		return usagef("--swallow keeps nothing, and --data-dir is where to keep it")
	case o.partitions < 1:
		return usagef("--partitions %d is not at least 1", o.partitions)
	}
	return o.checkAccess()
}

func (o *brokerOptions) start(log io.Writer) (*kfake.Cluster, error) {
	options := []kfake.Opt{
		kfake.Ports(o.ports...),
		kfake.ListenFn(listenOnBoth),
		kfake.DefaultNumPartitions(o.partitions),
		kfake.WithLogger(kfake.BasicLogger(log, kfake.LogLevelError)),
	}
	options = append(options, o.access()...)
	if !o.noAutoTopics {
		options = append(options, kfake.AllowAutoTopicCreation())
	}
	if o.dataDir != "" {
		options = append(options, kfake.DataDir(o.dataDir))
	}
	if o.swallow {
		options = append(options, kfake.BlackholeProduce())
	}
	cluster, err := kfake.NewCluster(options...)
	if errors.Is(err, syscall.EADDRINUSE) {
		return nil, fmt.Errorf("port %s is taken by another program (another broker?); choose one with --port: %w",
			&o.ports, err)
	}
	if err != nil {
		return nil, fmt.Errorf("starting the broker: %w", err)
	}
	refuseNames(cluster)
	return cluster, nil
}

// lockDataDir protects a data directory from a second broker, which would damage it. The lock ends with the
// process, so a killed broker leaves none behind. unlock releases the lock.
func lockDataDir(dir string) (unlock func(), err error) {
	if dir == "" {
		return func() {}, nil
	}
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, fmt.Errorf("making the data directory: %w", err)
	}
	file, err := os.OpenFile(filepath.Join(dir, ".lock"), os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, fmt.Errorf("opening the data directory's lock: %w", err)
	}
	if err := syscall.Flock(int(file.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = file.Close()
		return nil, fmt.Errorf("data directory %s is in use by another broker: %w", dir, err)
	}
	return func() { _ = file.Close() }, nil
}
