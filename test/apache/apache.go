// Package apache runs Apache Kafka for tests: one or several KRaft nodes on loopback, from the folder of jars
// of scripts/provision-kafka, with the listeners, certificates and users of a test. Nodes can be stopped,
// killed, paused and restarted one by one. All processes end with the process that started them.
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

// Config describes a cluster.
type Config struct {
	Dir    string // data, logs and certificates; created if missing, and kept by Close
	Kafka  string // the folder printed by scripts/provision-kafka
	Nodes  int    // each is broker and controller; 0 = 1
	HeapMB int    // largest heap of each node in MiB; 0 = 256, with which a node takes about 200 MiB in all

	Listeners []Listener // besides Internal; nil = Plaintext
	Users     []User     // who may log in at listeners with SASL, by any mechanism
	// SuperUsers turns authorization on: these users may do everything, and so may clients of a listener
	// without authentication; others need ACLs. nil = no authorization.
	SuperUsers []string

	Properties map[string]string // additions to server.properties of every node, or replacements
	Loggers    map[string]string // levels of the nodes' log by logger, such as "kafka.request.logger": "DEBUG"

	archive string // archive written by a node at its end, see Archive
}

// User is a user for logins. Both parts are ASCII without any of `[]",=` and spaces: Kafka's tool splits at
// them.
type User struct{ Name, Password string }

// Cluster is a running cluster. Nodes are numbered from 1; methods panic for other numbers. Methods are safe
// for concurrent use, except concurrent starts and ends of the same node.
type Cluster struct {
	config    Config
	nodes     []*node
	authority *Authority
}

// Start creates a new cluster in config.Dir and waits until each node has joined and answers. If ctx ends
// earlier or a node fails, the error has the node's last log lines, and no process is left running.
func Start(ctx context.Context, config Config) (*Cluster, error) {
	config.Nodes = max(config.Nodes, 1)
	if config.Listeners == nil {
		config.Listeners = []Listener{Plaintext}
	}
	// The nodes have their own working directories.
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
		err = crashed // the cause of a failed wait for this or another node
	}
	return nil, fmt.Errorf("starting Apache Kafka: %w", err)
}

func (c *Cluster) path(elements ...string) string {
	return filepath.Join(append([]string{c.config.Dir}, elements...)...)
}

// layOut writes the files of the nodes:
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

// command returns the command line of a node, without the class and its arguments.
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
		// Fastest start: a node of a test does not live long enough to gain from the better compiler, and
		// there are few processors for garbage collection.
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

// Address returns a node's address at a listener, host:port. It panics for an unknown listener.
func (c *Cluster) Address(id int, listener string) string {
	port, found := c.node(id).ports[listener]
	if !found {
		panic(fmt.Sprintf("apache: this cluster has no listener %q", listener))
	}
	return address(port)
}

// Brokers returns the value of a client's option brokers: the addresses of all nodes at a listener, separated
// by commas.
func (c *Cluster) Brokers(listener string) string {
	var addresses []string
	for _, n := range c.nodes {
		addresses = append(addresses, c.Address(n.id, listener))
	}
	return strings.Join(addresses, ",")
}

// Authority returns the signer of this cluster's broker certificates and of accepted client certificates.
func (c *Cluster) Authority() *Authority { return c.authority }

// CAFile is the PEM file of Authority's certificate.
func (c *Cluster) CAFile() string { return c.path("etc", "ca.pem") }

// Close kills all nodes and returns after their end. The error names nodes that had ended by themselves.
func (c *Cluster) Close() error {
	var errs []error
	for _, n := range c.nodes {
		errs = append(errs, n.crashed())
		c.Kill(n.id)
		errs = append(errs, n.log.file.Close())
	}
	return errors.Join(errs...)
}
