package apache

import (
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
)

// Listener is a port of every node.
type Listener struct {
	Name       string   // unique; upper-case letters, digits and underscores
	Protocol   string   // PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL
	Flaw       Flaw     // with SSL: the fault of the broker's certificate
	ClientAuth bool     // with SSL: the client must show a certificate of the cluster's Authority
	Advertised []string // host:port of each node, advertised instead of the listener's own: addresses of proxies
	Mechanisms []string // with SASL; nil = PLAIN, SCRAM-SHA-256 and SCRAM-SHA-512
}

// The usual listeners.
var (
	Plaintext     = Listener{Name: "PLAINTEXT", Protocol: "PLAINTEXT"}
	SSL           = Listener{Name: "SSL", Protocol: "SSL"}
	SASLPlaintext = Listener{Name: "SASL_PLAINTEXT", Protocol: "SASL_PLAINTEXT"}
	SASLSSL       = Listener{Name: "SASL_SSL", Protocol: "SASL_SSL"}
	MutualTLS     = Listener{Name: "MTLS", Protocol: "SSL", ClientAuth: true}
)

// Internal is the name of the listener in every cluster for traffic between nodes, in plaintext. Clients of
// this listener may do everything, so tests create ACLs there.
const Internal = "INTERNAL"

// controller is the name of the listener at which the nodes elect.
const controller = "CONTROLLER"

func (l Listener) ssl() bool  { return strings.HasSuffix(l.Protocol, "SSL") }
func (l Listener) sasl() bool { return strings.HasPrefix(l.Protocol, "SASL") }

// listeners returns all listeners, starting with Internal.
func (c *Cluster) listeners() []Listener {
	own := []Listener{{Name: controller, Protocol: "PLAINTEXT"}, {Name: Internal, Protocol: "PLAINTEXT"}}
	return append(own, c.config.Listeners...)
}

// properties is the text of a node's server.properties.
func (c *Cluster) properties(n *node) string {
	replicas, inSync := strconv.Itoa(min(len(c.nodes), 3)), strconv.Itoa(min(len(c.nodes), 2))
	properties := map[string]string{
		"process.roles": "broker,controller",
		"node.id":       strconv.Itoa(n.id),
		"log.dirs":      n.data(),

		"default.replication.factor":               replicas,
		"min.insync.replicas":                      inSync,
		"offsets.topic.replication.factor":         replicas,
		"offsets.topic.num.partitions":             "3",
		"transaction.state.log.replication.factor": replicas,
		"transaction.state.log.min.isr":            inSync,
		"transaction.state.log.num.partitions":     "3",

		// Groups do not wait for further members, and short session timeouts are allowed.
		"group.initial.rebalance.delay.ms": "0",
		"group.min.session.timeout.ms":     "500",
		// How long a killed node keeps its partitions and cannot rejoin: a third of Kafka's own 9 s.
		"broker.session.timeout.ms":    "3000",
		"broker.heartbeat.interval.ms": "500",

		"num.network.threads": "2",
		"num.io.threads":      "4",
		"background.threads":  "2",
		// Reserved on the heap at the start; Kafka's own 128 MiB is half of a node's heap here.
		"log.cleaner.dedupe.buffer.size": "2097152",
	}
	maps.Copy(properties, c.listenerProperties(n))
	if c.config.SuperUsers != nil {
		properties["authorizer.class.name"] = "org.apache.kafka.metadata.authorizer.StandardAuthorizer"
		// The nodes themselves are anonymous.
		properties["super.users"] = "User:" + strings.Join(append([]string{"ANONYMOUS"}, c.config.SuperUsers...), ";User:")
	}
	maps.Copy(properties, c.config.Properties)
	return render(properties)
}

func (c *Cluster) listenerProperties(n *node) map[string]string {
	var voters, protocols, listeners, advertised []string
	for _, other := range c.nodes {
		voters = append(voters, fmt.Sprintf("%d@%s", other.id, address(other.ports[controller])))
	}
	properties := map[string]string{
		"controller.quorum.voters":   strings.Join(voters, ","),
		"controller.listener.names":  controller,
		"inter.broker.listener.name": Internal,
	}
	for _, l := range c.listeners() {
		protocols = append(protocols, l.Name+":"+l.Protocol)
		own := address(n.ports[l.Name])
		listeners = append(listeners, l.Name+"://"+own)
		if l.Advertised != nil {
			own = l.Advertised[n.id-1]
		}
		advertised = append(advertised, l.Name+"://"+own)
		for name, value := range c.securityProperties(l) {
			properties["listener.name."+strings.ToLower(l.Name)+"."+name] = value
		}
	}
	properties["listener.security.protocol.map"] = strings.Join(protocols, ",")
	properties["listeners"] = strings.Join(listeners, ",")
	properties["advertised.listeners"] = strings.Join(advertised[1:], ",") // controllers are not told to clients
	return properties
}

func (c *Cluster) securityProperties(l Listener) map[string]string {
	properties := map[string]string{}
	if l.ssl() {
		properties["ssl.keystore.type"], properties["ssl.keystore.location"] = "PEM", c.keyStore(l.Flaw)
		properties["ssl.truststore.type"], properties["ssl.truststore.location"] = "PEM", c.CAFile()
	}
	if l.ClientAuth {
		properties["ssl.client.auth"] = "required"
	}
	if l.sasl() {
		mechanisms := l.Mechanisms
		if mechanisms == nil {
			mechanisms = []string{"PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512"}
		}
		properties["sasl.enabled.mechanisms"] = strings.Join(mechanisms, ",")
		for _, mechanism := range mechanisms {
			properties[strings.ToLower(mechanism)+".sasl.jaas.config"] = c.login(mechanism)
		}
	}
	return properties
}

// login is the JAAS configuration of a mechanism. SCRAM's users are in the cluster's metadata, see format.
func (c *Cluster) login(mechanism string) string {
	if mechanism != "PLAIN" {
		return "org.apache.kafka.common.security.scram.ScramLoginModule required;"
	}
	text := "org.apache.kafka.common.security.plain.PlainLoginModule required"
	for _, user := range c.config.Users {
		text += fmt.Sprintf(" user_%s=%q", user.Name, user.Password)
	}
	return text + ";"
}

// logging is the configuration of the nodes' log, without the hundreds of settings listed at each start.
func (c *Cluster) logging() string {
	properties := map[string]string{
		"log4j.rootLogger":                            "INFO, out",
		"log4j.appender.out":                          "org.apache.log4j.ConsoleAppender",
		"log4j.appender.out.encoding":                 "UTF-8", // in any locale
		"log4j.appender.out.layout":                   "org.apache.log4j.PatternLayout",
		"log4j.appender.out.layout.ConversionPattern": "%d{ISO8601} %p %m (%c)%n",
		"log4j.logger.kafka.server.KafkaConfig":       "WARN",
		"log4j.logger.org.apache.kafka.common.config": "WARN",
	}
	for name, level := range c.config.Loggers {
		properties["log4j.logger."+name] = level
	}
	return render(properties)
}

// render writes properties in Java's syntax, which understands the escapes of an ASCII Go string.
func render(properties map[string]string) string {
	var text strings.Builder
	for _, name := range slices.Sorted(maps.Keys(properties)) {
		quoted := strconv.QuoteToASCII(properties[name])
		text.WriteString(name + "=" + quoted[1:len(quoted)-1] + "\n")
	}
	return text.String()
}

func address(port int) string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)) }
