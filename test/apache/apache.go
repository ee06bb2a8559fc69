// Package apache runs Apache Kafka for tests: one KRaft node or several on loopback, from the folder of jars that
// scripts/provision-kafka makes, with the listeners, certificates and users that a test asks for. Nodes can be stopped,
// killed, paused and started again one by one. Whatever it starts ends with the process that started it.
package apache

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"

	"reskafka/test/port"
)

// Config says what kind of cluster to run.
type Config struct {
	Dir    string // where its data, logs and certificates go; made when it is not there, and left there by Close
	Kafka  string // the folder that scripts/provision-kafka printed
	Nodes  int    // each is broker and controller; 0 = 1
	HeapMB int    // largest heap of each node in MiB; 0 = 256, with which a node takes about 200 MiB in all

	Listeners []Listener // besides Internal; nil = Plaintext
	Users     []User     // who may log in at listeners with SASL, by any mechanism
	// SuperUsers turns authorization on: these users may do everything, whoever came through a listener without
	// authentication too, and others what ACLs allow them. nil = everybody may do everything.
	SuperUsers []string

	Properties map[string]string // added to server.properties of every node, or instead of what is there
	Loggers    map[string]string // levels of the nodes' log by logger, such as "kafka.request.logger": "DEBUG"

	archive string // where a node leaves an archive when it ends, see Archive
}

// User is somebody who logs in. Both parts are ASCII without any of `[]",=` and spaces: Kafka's tool splits at them.
type User struct{ Name, Password string }

// Cluster is a running cluster. Its nodes are numbered from 1 on; its methods panic for others. They may be called from
// several goroutines, those that start and end the same node only one after the other.
type Cluster struct {
	config    Config
	nodes     []*node
	authority *Authority
}

// Start makes a new cluster in config.Dir and waits until each of its nodes has joined it and answers. When ctx ends
// before that or a node fails, the error tells what it logged last, and nothing is left running.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	config.Nodes = max(config.Nodes, 1)
	if config.Listeners == nil {
		config.Listeners = []Listener{Plaintext}
	}
	// The nodes have working directories of their own.
	var notDir, notKafka error
	config.Dir, notDir = filepath.Abs(config.Dir)
	config.Kafka, notKafka = filepath.Abs(config.Kafka)
	c := &Cluster{config: config}
	err := errors.Join(notDir, notKafka)
	if err == nil {
		err = c.layOut()
	}
	if err == nil {
		err = c.format(ctx)
	}
	if err == nil {
		err = c.Restart(ctx)
	}
	if err == nil {
		return c, nil
	}
	if crashed := c.Close(); crashed != nil {
		err = crashed // the reason for which waiting for it, or for another node, has failed
	}
	return nil, fmt.Errorf("starting Apache Kafka: %w", err)
}

func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.config.Dir}, elements...)...)
}

// layOut writes everything that nodes find when they start:
//
//	etc/      the log's configuration, the authority, the brokers' certificates
//	node<N>/  server.properties, data/, kafka.log
func (c *Cluster) layOut() error {
	command, err := c.command()
	if err != nil {
		return err
	}
	ports, err := port.Free(c.config.Nodes * len(c.listeners()))
	if err != nil {
		return err
	}
	for id := 1; id <= c.config.Nodes; id++ {
		n := &node{id: id, dir: c.path("node" + strconv.Itoa(id)), command: command, ports: map[string]int{}, archive: c.config.archive}
		for _, l := range c.listeners() {
			n.ports[l.Name], ports = ports[0], ports[1:]
		}
		if err := os.MkdirAll(n.dir, 0o700); err != nil {
			return err
		}
		if n.log, err = newNodeLog(filepath.Join(n.dir, "kafka.log")); err != nil {
			return err
		}
		c.nodes = append(c.nodes, n)
	}
	if err := os.MkdirAll(c.path("etc"), 0o700); err != nil {
		return err
	}
	files, err := c.certificates()
	if err != nil {
		return err
	}
	files[c.path("etc", "log4j.properties")] = []byte(c.logging())
	for _, n := range c.nodes {
		files[n.properties()] = []byte(c.properties(n))
	}
	for path, content := range files {
		if err := os.WriteFile(path, content, 0o600); err != nil {
			return err
		}
	}
	return nil
}

// command is the command line of a node, without the class it runs and that one's arguments.
func (c *Cluster) command() ([]string, error) {
	java := "java"
	if home := os.Getenv("JAVA_HOME"); home != "" {
		java = filepath.Join(home, "bin", "java")
	}
	java, err := exec.LookPath(java)
	if err != nil {
		return nil, fmt.Errorf("finding Java: %w", err)
	}
	// The only error is a malformed pattern.
	jars, _ := filepath.Glob(filepath.Join(c.config.Kafka, "*.jar"))
	if len(jars) == 0 {
		return nil, fmt.Errorf("no jars in %q: it is no folder that scripts/provision-kafka made", c.config.Kafka)
	}
	heap := c.config.HeapMB
	if heap == 0 {
		heap = 256
	}
	command := []string{
		// What takes least time to start: a node of a test does not live long enough to gain from the better compiler,
		// and there are few processors to collect garbage with.
		java, "-Xmx" + strconv.Itoa(heap) + "m", "-XX:TieredStopAtLevel=1", "-XX:+UseSerialGC", "-Xshare:auto",
		// Not on the class path: an archive is of no use with folders there.
		"-Dlog4j.configuration=" + (&url.URL{Scheme: "file", Path: c.path("etc", "log4j.properties")}).String(),
		"-cp", strings.Join(jars, ":"),
	}
	if archives, _ := filepath.Glob(filepath.Join(c.config.Kafka, "*"+archiveSuffix)); len(archives) > 0 && c.config.archive == "" {
		command = append(command, "-XX:SharedArchiveFile="+archives[0])
	}
	return command, nil
}

func (c *Cluster) node(id int) *node { return c.nodes[id-1] }

// Nodes is how many nodes there are, running or not.
func (c *Cluster) Nodes() int { return len(c.nodes) }

// Address is where a node listens at the listener of that name, host:port. It panics when there is none.
func (c *Cluster) Address(id int, listener string) string {
	port, found := c.node(id).ports[listener]
	if !found {
		panic(fmt.Sprintf("apache: this cluster has no listener %q", listener))
	}
	return address(port)
}

// Brokers is what the option brokers of a client is: the addresses of all nodes at the listener of that name, with
// commas between them.
func (c *Cluster) Brokers(listener string) string {
	var addresses []string
	for _, n := range c.nodes {
		addresses = append(addresses, c.Address(n.id, listener))
	}
	return strings.Join(addresses, ",")
}

// Authority is who signed the certificates of this cluster's brokers, and whose client certificates they accept.
func (c *Cluster) Authority() *Authority { return c.authority }

// CAFile is the PEM file of Authority's certificate.
func (c *Cluster) CAFile() string { return c.path("etc", "ca.pem") }

// Close kills all nodes and returns when they are gone. The error tells of nodes that had ended by themselves.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.crashed())
		c.Kill(n.id)
		errs = append(errs, n.log.file.Close())
	}
	return errors.Join(errs...)
}
