package config

import (
	"slices"
	"strings"
)

// connectionTable is a connection of kafka.conf, in the documented order. Surprising upper limits come from
// librdkafka's configuration (CONFIGURATION.md), so a file has the same meaning here and there. Other sources
// are in the row.
var connectionTable = Table[Connection]{
	Type:    "connection",
	What:    "a connection",
	Example: "my-kafka",
	Short:   "A connection to a Kafka cluster",
	Long: "The name of the section is the name by which other modules ask for the connection. One connection serves" +
		" producing and consuming.",
	Options: slices.Concat(brokerOptions, securityOptions, of(Producing, producerOptions), of(Producing, spoolOptions),
		of(Consuming, consumerOptions), debugOptions),
	front: oldOrder,
	back:  slices.Concat([]string{hostCheck}, spoolNames(), []string{"request_max_bytes"}),
	rules: connectionRules,
	idle:  idleOption,
}

// oldOrder is the display order of the module on librdkafka. Scripts read its lines.
var oldOrder = strings.Fields(`brokers client_id message_max_bytes request_timeout_ms message_timeout_ms security_protocol
	sasl_mechanisms sasl_username sasl_password ssl_ca_location ssl_certificate_location ssl_key_location compression_codec
	compression_level linger_ms batch_num_messages batch_size queue_buffering_max_messages queue_buffering_max_kbytes acks
	retries enable_idempotence reconnect_backoff_ms reconnect_backoff_max_ms debug group_id auto_offset_reset
	enable_auto_commit auto_commit_interval_ms session_timeout_ms max_poll_interval_ms`)

var brokerOptions = []Option[Connection]{
	{Info{
		Name: "brokers", Label: "Brokers", Kind: BrokerList, Default: "localhost:9092", Since: "1.0.0",
		Also:  []string{"bootstrap_servers", "metadata_broker_list", "hosts"},
		Short: "Brokers to ask for the rest of the cluster",
		Long: "One is enough; two or three let Asterisk start while one of them is down. The port is 9092 where none" +
			" is given. An IPv6 address that has a port stands in brackets.",
		Example: "kafka1:9092,kafka2:9092",
	}, func(c *Connection) any { return brokerField{&c.Brokers, &c.brokersText} }},
	{Info{
		// 256 is the limit of the client library (kgo.ClientID).
		Name: "client_id", Label: "Client ID", Kind: Text, Max: 256, Default: "asterisk", Since: "1.0.0",
		Short: "Name by which the brokers know this Asterisk",
		Long:  "It shows in the brokers' logs and metrics, and quotas can be given by it.",
	}, func(c *Connection) any { return &c.ClientID }},
	{Info{
		Name: "request_timeout_ms", Label: "Request timeout", Kind: Milliseconds, Unit: "ms",
		Default: "5000", Min: 1, Max: 900000, Since: "1.0.0",
		Short: "How long a broker may take to answer",
		Long: "It limits a produce request (the time the broker has to replicate it), the creation of a topic and" +
			" kafka test send.",
	}, func(c *Connection) any { return &c.RequestTimeout }},
	{Info{
		Name: "message_timeout_ms", Label: "Message timeout", Kind: Milliseconds, Unit: "ms",
		Default: "300000", Min: 1000, Max: 2147483647, Since: "1.0.0",
		Also:  []string{"delivery_timeout_ms"},
		Short: "How long an accepted message may wait for its delivery",
		Long: "A message that no broker has acknowledged by then is dropped, or stays on disk (see durability). It must be" +
			" more than linger_ms. With durability = memory, raise it and the limits of the queue for longer outages.",
	}, func(c *Connection) any { return &c.MessageTimeout }},
	{Info{
		Name: "socket_timeout_ms", Label: "Socket timeout", Kind: Milliseconds, Unit: "ms",
		Default: "10000", Min: 1000, Max: 300000, Since: "1.0.0",
		Short: "How long a connection may be silent before it counts as dead",
		Long:  "It also limits how long connecting may take, the TLS handshake included.",
	}, func(c *Connection) any { return &c.SocketTimeout }},
	{Info{
		// 900000 is the limit of the client library (kgo.ConnIdleTimeout).
		Name: "connections_max_idle_ms", Label: "Max idle", Kind: Milliseconds, Unit: "ms",
		Default: "180000", Min: 1000, Max: 900000, Since: "1.0.0",
		Short: "How long a connection may be idle before it is renewed",
		Long: "Set it below the shortest time after which a balancer or a router drops idle connections without a word:" +
			" load balancers of clouds after 240 or 350 seconds, some routers earlier. Kafka closes openly after" +
			" 600 seconds, which needs no setting.",
	}, func(c *Connection) any { return &c.ConnectionsMaxIdle }},
	{Info{
		Name: "reconnect_backoff_ms", Label: "Reconnect backoff", Kind: Milliseconds, Unit: "ms",
		Default: "100", Min: 0, Max: 3600000, Since: "1.0.0",
		Short: "Wait before the first attempt to connect again",
		Long:  "Each further attempt waits twice as long, up to reconnect_backoff_max_ms.",
	}, func(c *Connection) any { return &c.ReconnectBackoff }},
	{Info{
		Name: "reconnect_backoff_max_ms", Label: "Reconnect backoff max", Kind: Milliseconds, Unit: "ms",
		Default: "10000", Min: 0, Max: 3600000, Since: "1.0.0",
		Short: "Longest wait between two attempts to connect",
		Long:  "At least reconnect_backoff_ms. A low value finds a broker sooner and asks a dead one more often.",
	}, func(c *Connection) any { return &c.ReconnectBackoffMax }},
}

var securityOptions = []Option[Connection]{
	{Info{
		Name: "security_protocol", Label: "Security protocol", Kind: Enumeration, Default: "plaintext", Since: "1.0.0",
		Words: []Word{
			{Text: "plaintext", Short: "neither encrypted nor authenticated"},
			{Text: "ssl", Short: "TLS; with a client certificate if one is given"},
			{Text: "sasl_plaintext", Short: "user name and password, not encrypted"},
			{Text: "sasl_ssl", Short: "user name and password over TLS"},
		},
		Short: "How to talk to the brokers",
		Long: "It must match the listener of the brokers. Without TLS (plaintext, sasl_plaintext) everybody on the way can" +
			" read the messages, and with the PLAIN mechanism the password too.",
	}, func(c *Connection) any { return &c.SecurityProtocol }},
	{Info{
		Name: "sasl_mechanisms", Label: "SASL mechanisms", Kind: Enumeration, Since: "1.0.0",
		Also: []string{"sasl_mechanism"},
		Words: []Word{
			{Text: "PLAIN", Short: "the password itself goes to the broker"},
			{Text: "SCRAM-SHA-256", Short: "the broker gets a proof of the password"},
			{Text: "SCRAM-SHA-512", Short: "the same with a longer hash"},
		},
		Short:   "How the user is authenticated",
		Long:    "Needed by sasl_plaintext and sasl_ssl, which also need sasl_username and sasl_password.",
		Example: "SCRAM-SHA-512",
	}, func(c *Connection) any { return &c.SASLMechanism }},
	{Info{
		Name: "sasl_username", Label: "SASL username", Kind: Text, Since: "1.0.0",
		Also: []string{"user", "login"}, Give: "the name of a user of the cluster",
		Short: "User to authenticate as", Example: "asterisk",
		Long: "Write a semicolon as \\; because Asterisk takes a bare one for the start of a comment.",
	}, func(c *Connection) any { return &c.SASLUsername }},
	{Info{
		Name: "sasl_password", Label: "SASL password", Kind: SecretText, Since: "1.0.0",
		Give:  "that user's password",
		Short: "Password of the user", Example: "change-me",
		Long: "It is never printed and never logged; keep the file readable for Asterisk alone. Write a semicolon as" +
			" \\; because Asterisk takes a bare one for the start of a comment.",
	}, func(c *Connection) any { return &c.SASLPassword }},
	{Info{
		Name: "ssl_ca_location", Label: "SSL CA location", Kind: PEMFile, Since: "1.0.0",
		Short: "Certificates of the authorities to trust", Example: "/etc/asterisk/keys/kafka-ca.pem",
		Unset: "the system's own store",
		Long: "A PEM file, or a folder of them. Without it the system's own store is used. A reload reads the files of this" +
			" and the next two options again, also when the option is unchanged.",
	}, func(c *Connection) any { return &c.CAFile }},
	{Info{
		Name: "ssl_certificate_location", Label: "SSL certificate location", Kind: PEMFile, Since: "1.0.0",
		Short: "Certificate to show to the brokers", Example: "/etc/asterisk/keys/kafka-client.pem",
		Long: "For brokers that ask for one (mutual TLS); intermediate certificates follow it in the same file. It" +
			" needs ssl_key_location.",
	}, func(c *Connection) any { return &c.CertificateFile }},
	{Info{
		Name: "ssl_key_location", Label: "SSL key location", Kind: PEMFile, Since: "1.0.0",
		Short: "Key of that certificate", Example: "/etc/asterisk/keys/kafka-client.key",
		Long: "A PEM file without a passphrase, readable for Asterisk alone. It needs ssl_certificate_location.",
	}, func(c *Connection) any { return &c.KeyFile }},
	{Info{
		// The words are librdkafka's, with its default since 2.0.
		Name: hostCheck, Label: "SSL host check", Kind: Enumeration, Default: "https", Since: "1.0.0",
		Also: []string{"ssl_verify_hostname", "verify_hostname"},
		Words: []Word{
			{Text: "https", Short: "it must name the host that brokers and the cluster's listeners give"},
			{Text: "none", Short: "any certificate of a trusted authority will do"},
		},
		Short: "Whether a broker's certificate must name the broker's host",
		Long: "Warning: with none, everybody who has any certificate of one of the trusted authorities can pass for a broker," +
			" read what is sent and, with the PLAIN mechanism, the password; with the system's store of authorities, that" +
			" is anybody. The authority and the dates of the certificate are checked all the same. Use it only until the" +
			" brokers have certificates with their names, and with an authority of your own in ssl_ca_location.",
	}, func(c *Connection) any { return &c.HostCheck }},
}

// hostCheck is the option's name. It is shown last, because older scripts count lines.
const hostCheck = "ssl_endpoint_identification_algorithm"
