// Command cluster runs Apache Kafka for experiments, until an interrupt:
//
//	go run ./test/apache/cluster --nodes 3 $(scripts/provision-kafka)
//
//	go run ./test/apache/cluster --archive NAME FOLDER
//
// The command prints the brokers of each listener once all nodes are ready. All data is removed at the end.
// alice and bob may log in with the password "secret". --archive only creates the archive for faster starts,
// see apache.Archive.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"reskafka/test/apache"
)

func main() {
	nodes := flag.Int("nodes", 1, "how many `nodes` the cluster has")
	archive := flag.String("archive", "", "only leave an archive of that `name` in the folder")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: cluster [--nodes N] <folder that scripts/provision-kafka printed>")
		os.Exit(2)
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	act := func() error { return run(ctx, flag.Arg(0), *nodes) }
	if *archive != "" {
		act = func() error { return apache.Archive(ctx, flag.Arg(0), *archive) }
	}
	if err := act(); err != nil {
		fmt.Fprintln(os.Stderr, "cluster:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, kafka string, nodes int) (err error) {
	dir, err := os.MkdirTemp("", "apache-kafka-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	listeners := []apache.Listener{apache.Plaintext, apache.SSL, apache.SASLPlaintext, apache.SASLSSL, apache.MutualTLS}
	c, err := apache.Start(ctx, apache.Config{
		Dir: dir, Kafka: kafka, Nodes: nodes, Listeners: listeners,
		Users: []apache.User{{Name: "alice", Password: "secret"}, {Name: "bob", Password: "secret"}},
	})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(c.Close(), err) }()
	pair, err := c.Authority().Issue("client", apache.NoFlaw)
	if err != nil {
		return err
	}
	for _, l := range listeners {
		fmt.Printf("%-15s %s\n", l.Name, c.Brokers(l.Name))
	}
	fmt.Printf("%-15s %s\n", "authority", c.CAFile())
	for name, content := range map[string][]byte{"client.pem": pair.Certificate, "client-key.pem": pair.Key} {
		path := filepath.Join(dir, name)
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
		fmt.Printf("%-15s %s\n", name, path)
	}
	<-ctx.Done()
	return nil
}
