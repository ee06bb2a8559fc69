package client

import (
	"io"
	"syscall"

	"github.com/twmb/franz-go/pkg/kbin"
)

// The situations recognized by cause.go.
const (
	hostNotFound      Situation = "host not found"
	hostNotFoundBy    Situation = "host not found by DNS"
	lookupTimedOut    Situation = "lookup timed out"
	lookupFailed      Situation = "lookup failed"
	connectTimedOut   Situation = "connecting timed out"
	answerTimedOut    Situation = "answer timed out"
	stillConnecting   Situation = "still connecting"
	NoBrokerAnswered  Situation = "no broker answered"
	closedAtOnce      Situation = "closed at once"
	closedAtOncePlain Situation = "closed at once, plaintext"
	closedBeforeLogin Situation = "closed at once, no login"
	closedUnanswered  Situation = "closed before it answered"
	closedAfterLarge  Situation = "closed after a large request"
	LimitLearned      Situation = "closed again after a large request"
	RecordTooLong     Situation = "closed after each request with a record"
	answersInTLS      Situation = "answers in TLS"

	handshakeRefused    Situation = "handshake refused"
	sharesNothing       Situation = "handshake refused, nothing in common"
	tooWeak             Situation = "handshake refused, too weak"
	otherVersions       Situation = "handshake refused, other versions"
	nameUnrecognized    Situation = "handshake refused, name unrecognized"
	notTLS              Situation = "not TLS"
	handshakeTimedOut   Situation = "handshake timed out"
	handshakeCutOff     Situation = "handshake cut off"
	handshakeFailed     Situation = "handshake failed"
	certificateWanted   Situation = "certificate wanted"
	certificateExpired  Situation = "client certificate expired"
	certificateRefused  Situation = "client certificate refused"
	authorityUnknown    Situation = "unknown authority"
	authorityNotInFile  Situation = "authority not in ssl_ca_location"
	weakDigest          Situation = "certificate signed with a weak digest"
	otherHost           Situation = "certificate of another host"
	addressAsName       Situation = "certificate with an address as a DNS name"
	notValidYet         Situation = "certificate not valid yet"
	serverExpired       Situation = "broker's certificate expired"
	certificateNotValid Situation = "broker's certificate not valid"

	certificateUnreadable Situation = "broker's certificate unreadable"

	wrongPassword      Situation = "wrong password"
	wrongPasswordSCRAM Situation = "wrong password, SCRAM"
	otherMechanisms    Situation = "other mechanisms"
	mechanismRefused   Situation = "mechanism refused"
	tooManyRounds      Situation = "too many rounds of SCRAM"
	scramFailed        Situation = "SCRAM failed"
	noLoginExpected    Situation = "no login expected"

	responseRefused Situation = "response refused"
	batchRefused    Situation = "batch refused"
	pauseAsked      Situation = "pause asked for"
	pauseCut        Situation = "pause cut"

	NoPartitions   Situation = "no partitions"
	Leaderless     Situation = "no leader"
	NoRightToWrite Situation = "no idempotent write"
	unknownCode    Situation = "unknown code"
	NoOffset       Situation = "no committed offset"
	OffsetGone     Situation = "committed offset gone"
	RecordsLost    Situation = "records lost"
	NoAnswerInTime Situation = "no answer in time"

	UnreadableBatch Situation = "unreadable batch"
	UnreadablePlace Situation = "unreadable partition"
	OversizedBatch  Situation = "oversized batch"
	OpenTransaction Situation = "open transaction"
	NotFetched      Situation = "partition not fetched"
)

// VersionsDoNotFit is the client's error for a request without a common version of client and broker.
const VersionsDoNotFit = libraryError("broker is too old; the broker has already indicated it will not know how to handle the request")

// otherWords are the rows of everything but Kafka's error codes.
var otherWords = []words{
	{of: syscall.ECONNREFUSED, cause: "connection refused", address: true, remedy: "does a broker listen on that port?"},
	{of: syscall.ECONNRESET, cause: "connection reset by the broker"},
	{of: syscall.EPIPE, cause: "connection reset by the broker"},
	{of: syscall.EHOSTUNREACH, cause: "no route to host", address: true, remedy: "is the machine up and the network between right?"},
	{of: syscall.ENETUNREACH, cause: "network is unreachable", address: true, remedy: "has this machine a route there?"},
	{of: syscall.EMFILE, cause: "too many open files", remedy: "raise maxfiles in asterisk.conf"},
	{of: syscall.EADDRNOTAVAIL, cause: "no local port is free", remedy: "raise net.ipv4.ip_local_port_range"},
	{of: syscall.EACCES, cause: "this machine forbids the connection", remedy: "does a firewall or SELinux reject it?"},
	{of: syscall.EPERM, cause: "this machine forbids the connection", remedy: "does a firewall or SELinux reject it?"},
	{of: io.EOF, cause: "it closed the connection"},
	{of: io.ErrUnexpectedEOF, cause: "it closed the connection"},
	{of: connectTimedOut, cause: "timed out", address: true, remedy: "does it hang, or does a firewall drop packets?"},
	{of: stillConnecting, cause: "connecting for %s", address: true, remedy: "does it hang, or does a firewall drop packets?"},
	{of: answerTimedOut, cause: "timed out", option: "socket_timeout_ms", remedy: "does the broker hang, or the network lose packets?"},
	{of: hostNotFound, cause: "host name not found", address: true, remedy: "can this machine resolve the name?"},
	{of: hostNotFoundBy, cause: "host name not found by DNS server %s", address: true, remedy: "can this machine resolve the name?"},
	{of: lookupTimedOut, cause: "host name lookup timed out: %s", address: true, remedy: "see /etc/resolv.conf"},
	{of: lookupFailed, cause: "host name lookup failed: %s", address: true, remedy: "see /etc/resolv.conf"},
	{of: NoBrokerAnswered, cause: "no broker has answered in time", option: "brokers and request_timeout_ms"},
	{of: NoAnswerInTime, cause: "no answer in time", option: "request_timeout_ms"},

	{of: closedAtOnce, cause: "it closed the connection at once", remedy: "the broker's log tells why"},
	{of: closedAtOncePlain, cause: "it closed the connection at once",
		remedy: "is its listener's security_protocol ssl or sasl_ssl?"},
	{of: closedBeforeLogin, cause: "it closed the connection at once", remedy: "is its listener's security_protocol %s?"},
	{of: closedUnanswered, cause: "it closed the connection before it answered"},
	{of: closedAfterLarge, cause: "it closed the connection after a request of %s bytes", option: "request_max_bytes", varies: true},
	{of: LimitLearned, cause: "it closed the connection again after a request of %s bytes; requests to it have at most %s bytes from now on",
		option: "request_max_bytes", varies: true},
	{of: RecordTooLong, cause: "the broker closed the connection after each request with this record alone, of %s bytes, and answered " +
		"requests before and after, the longest of %s bytes", option: "message_max_bytes and request_max_bytes",
		remedy: "raise the broker's limit for requests, or lower message_max_bytes to refuse such records at once"},
	{of: answersInTLS, cause: "it answers in TLS", remedy: "is its listener's security_protocol ssl or sasl_ssl?"},

	{of: handshakeRefused, area: "TLS", cause: "the broker refused the handshake: %s", remedy: "the broker's log tells why"},
	{of: sharesNothing, area: "TLS", cause: "the broker refused the handshake: %s, it has no cipher suite or curve in common with this client",
		remedy: "its ssl.cipher.suites must allow ECDHE or RSA with AES, DHE is not supported; its curves X25519, P-256, P-384 or P-521"},
	{of: tooWeak, area: "TLS", cause: "the broker refused the handshake: %s", option: "ssl_certificate_location",
		remedy: "it wants stronger ciphers or keys"},
	{of: otherVersions, area: "TLS", cause: "the broker refused the handshake: %s, it allows neither TLS 1.2 nor 1.3",
		remedy: "its ssl.enabled.protocols must allow one of them"},
	{of: nameUnrecognized, area: "TLS", cause: "the broker refused the handshake: %s, it has no certificate for this host name",
		option: "brokers and the cluster's advertised.listeners"},
	{of: notTLS, area: "TLS", cause: "the broker does not speak TLS on this port",
		remedy: "is its listener's security_protocol plaintext or sasl_plaintext?"},
	{of: handshakeTimedOut, area: "TLS", cause: "the handshake timed out",
		remedy: "does the broker speak TLS on this port? does a firewall in between stop TLS?"},
	{of: handshakeCutOff, area: "TLS", cause: "the broker closed the connection during the handshake",
		remedy: "is its listener's security_protocol plaintext or sasl_plaintext?"},
	{of: handshakeFailed, area: "TLS", cause: "%s", option: "security_protocol"},
	{of: certificateWanted, area: "TLS", cause: "the broker wants a client certificate and there is none",
		option: "ssl_certificate_location"},
	{of: certificateExpired, area: "TLS", cause: "the broker refused the client certificate, which expired on %s",
		option: "ssl_certificate_location"},
	{of: certificateRefused, area: "TLS", cause: "the broker refused the client certificate%s",
		option: "ssl_certificate_location", remedy: "does the broker trust its authority?"},
	{of: authorityNotInFile, area: "TLS",
		cause:  "the broker's certificate is signed by an authority that is not in ssl_ca_location%s",
		remedy: "add the authority's certificate to that file"},
	{of: authorityUnknown, area: "TLS",
		cause:  "the broker's certificate is signed by an authority that this system does not know%s",
		option: "ssl_ca_location"},
	{of: otherHost, area: "TLS", cause: "the broker's certificate is for another host: it names %s and not %s",
		option: "brokers, the cluster's advertised.listeners and ssl_endpoint_identification_algorithm"},
	{of: weakDigest, area: "TLS", cause: "the broker's certificate is signed with %s, which is not secure",
		remedy: "issue another one, signed with SHA-256"},
	{of: addressAsName, area: "TLS", cause: "the broker's certificate has %s as a DNS name and not as an IP address",
		option: "brokers, the cluster's advertised.listeners and ssl_endpoint_identification_algorithm",
		remedy: "issue another one with the alternative name IP:%s, or use a host name"},
	{of: notValidYet, area: "TLS", cause: "the broker's certificate is not valid before %s",
		remedy: "is this machine's clock right?"},
	{of: serverExpired, area: "TLS", cause: "the broker's certificate expired on %s",
		remedy: "renew it; is this machine's clock right?"},
	{of: certificateUnreadable, area: "TLS", cause: "the broker's certificate cannot be read: %s", remedy: "issue another one"},
	{of: certificateNotValid, area: "TLS", cause: "the broker's certificate is not valid: %s", remedy: "issue another one"},

	{of: wrongPassword, area: "SASL", cause: "unknown user or wrong password, the broker does not tell which",
		option: "sasl_username and sasl_password", remedy: `write a semicolon in the password as \;`},
	{of: wrongPasswordSCRAM, area: "SASL", cause: "unknown user or wrong password, the broker does not tell which",
		option: "sasl_username and sasl_password", remedy: `the user needs credentials for %s, and a semicolon in the password is written \;`},
	{of: otherMechanisms, area: "SASL", cause: "the broker does not offer %s but %s", option: "sasl_mechanisms"},
	{of: mechanismRefused, area: "SASL", cause: "the broker does not offer the mechanism of sasl_mechanisms",
		remedy: "the broker's sasl.enabled.mechanisms lists its own"},
	{of: tooManyRounds, area: "SASL", cause: "the broker asks for %s rounds of SCRAM, more than a million are not computed",
		remedy: "give the user fewer iterations, and is it the broker that it claims to be?"},
	{of: scramFailed, area: "SASL", cause: "the login by SCRAM failed: %s", option: "sasl_mechanisms",
		remedy: "is it the broker that it claims to be?"},
	{of: noLoginExpected, area: "SASL", cause: "the broker's listener expects no login", remedy: "is its security_protocol %s?"},

	{of: responseRefused, cause: "its response to %s was refused: %s",
		remedy: "is this port that of a Kafka broker? does a proxy between alter what passes?"},
	{of: batchRefused, cause: "the batch at offset %s of partition %s was refused: %s",
		remedy: "the broker's log of that partition is damaged, or a proxy between alters what passes"},
	{of: pauseAsked, cause: "it asks for a pause", remedy: "does a quota of the cluster limit this user or client_id?"},
	{of: pauseCut, cause: "it asks for a pause longer than %s, which is cut to %s",
		remedy: "does a quota of the cluster limit this user or client_id?"},

	{of: NoPartitions, cause: "the brokers list it without partitions", remedy: "is it being created or deleted? it is asked about again"},
	{of: Leaderless, cause: "partition %s has no leader", remedy: "are the brokers up that have its replicas?"},
	{of: NoRightToWrite, area: "CLUSTER_AUTHORIZATION_FAILED", cause: "this user is not authorized to write idempotently",
		option: "enable_idempotence", remedy: "the cluster's ACLs must allow IdempotentWrite on the cluster"},
	{of: unknownCode, cause: "the broker answers with error code %s, which is newer than this module",
		remedy: "Kafka's protocol documentation lists the codes"},
	{of: NoOffset, cause: "group %s has no committed offset and auto_offset_reset = none; not consumed until one is committed " +
		"and the group rebalances", option: "auto_offset_reset"},
	{of: OffsetGone, cause: "the committed offset of group %s is not there any more and auto_offset_reset = none; not consumed " +
		"until another is committed and the group rebalances", option: "auto_offset_reset"},
	{of: RecordsLost, cause: "the broker has lost records: consumed up to offset %s, going on at %s",
		remedy: "was a leader elected that was not in sync? see unclean.leader.election.enable of the brokers"},

	{of: UnreadableBatch, cause: "the batch of offsets %s to %s cannot be read: %s", remedy: "kafka consumer skip %s topic %s " +
		"partition %s goes on behind it; were the broker's log files damaged?"},
	{of: UnreadablePlace, cause: "it cannot be read: %s", remedy: "end all consumers of group %s and set its offset with " +
		"kafka-consumer-groups --reset-offsets; were the broker's log files damaged?"},
	{of: OversizedBatch, cause: "the batch of offsets %s to %s needs more than %s bytes of memory when it is decompressed: stepped over, " +
		"its records are not delivered", option: "message_max_bytes", remedy: "a larger one allows larger batches"},
	{of: OpenTransaction, cause: "%s record(s) from offset %s on wait for the end of an open transaction, for %s so far",
		remedy: "does their producer still run? kafka-transactions.sh find-hanging lists such transactions"},
	{of: NotFetched, cause: "not fetched for %s although it has %s more record(s) from offset %s on, which its leader returns to " +
		"a request without a leader epoch", remedy: "the broker's log may tell why"},
	{of: ErrNoBatch, cause: "the batch is cut off or has other records than it claims", remedy: "were the broker's log files damaged?"},

	{of: ErrNoAnswer, cause: "the broker's answer says nothing about the partition", remedy: "the broker's log may tell why"},
	{of: VersionsDoNotFit,
		cause:  "the versions of the protocol that the broker offers do not fit",
		remedy: "is it a Kafka broker of 0.11 or later, and does a proxy before it limit the versions?"},
	{of: libraryError(ConnectionDied), cause: "it closed the connection"},
	{of: libraryError("correlation ID mismatch"), cause: "its answer belongs to another request",
		remedy: "does a proxy between mix up connections?"},
	{of: libraryError("are 'HTTP' in ascii"), cause: "it answers in HTTP", option: "brokers",
		remedy: "is this port that of a Kafka broker?"},
	{of: libraryError("response exceeds BrokerMaxReadBytes"), cause: "its answer is larger than any that is read",
		remedy: "is this port that of a Kafka broker?"},
	{of: libraryError("invalid large response size"), cause: "what it answers is not Kafka's protocol",
		remedy: "is this port that of a Kafka broker?"},
	{of: libraryError("invalid negative response size"), cause: "what it answers is not Kafka's protocol",
		remedy: "is this port that of a Kafka broker?"},
	{of: libraryError("unknown broker"), cause: "the cluster does not list this broker any more"},
	{of: libraryError("broker replied that the controller broker"), cause: "the cluster has no controller at the moment",
		remedy: "are enough controllers up?"},
	{of: libraryError("broker replied that group"), cause: "the cluster does not list the group's coordinator",
		remedy: "is that broker up?"},
	{of: kbin.ErrNotEnoughData, cause: "its answer is damaged", remedy: "does a proxy between alter what passes?"},
	{of: libraryError("invalid negative offset"), cause: "the broker answers with an offset below 0",
		remedy: "the broker's log may tell why"},
	{of: libraryError("omitted a requested partition"), cause: "the coordinator's answer leaves a partition out",
		remedy: "the broker's log may tell why"},
	{of: libraryError("none contained or exceeded the requested offset"), cause: "the broker answers with other offsets than asked for",
		remedy: "the broker's log may tell why"},
}
