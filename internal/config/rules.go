package config

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"
)

// connectionRules check the options of a connection against each other.
var connectionRules = []rule[Connection]{
	{"broker scheme", []string{"brokers", "security_protocol"}, checkBrokerSchemes},
	{"linger within message timeout", []string{"linger_ms", "message_timeout_ms"}, checkLinger},
	{"backoff ceiling", []string{"reconnect_backoff_ms", "reconnect_backoff_max_ms"}, checkBackoff},
	{"SASL complete", []string{"security_protocol"}, checkSASL},
	{"SASL in use", []string{"security_protocol"}, checkUnusedSASL},
	{"TLS in use", []string{"security_protocol"}, checkUnusedTLS},
	{"certificates", []string{"security_protocol"}, checkCertificates},
	{"password in one piece", []string{"sasl_password"}, checkPassword},
	{"compression level", []string{"compression_codec", "compression_level"}, checkLevel},
	{"spool holds a message", []string{"spool_max_mbytes", "message_max_bytes"}, checkSpoolSize},
	{"idempotence", []string{"enable_idempotence", "acks", "retries"}, checkIdempotence},
	{"least the client can do", nil, checkMinimums},
	{"debug contexts in use", []string{"debug"}, checkDebug},
	{"session within poll interval", []string{"session_timeout_ms", "max_poll_interval_ms"}, checkPollInterval},
}

// idleOption returns why a mistake in an option is harmless: the connection makes no use of the option. It
// checks written options only, because values are still being read.
func idleOption(sc *scope[Connection], o *Info) string {
	if group, given := sc.set["group_id"]; o.Side == Consuming && (!given || group.Value == "") {
		return fmt.Sprintf("without group_id it has no effect and stays %s", o.Default)
	}
	if sasl := strings.HasPrefix(o.Name, "sasl_"); sasl && !strings.HasPrefix(sc.value.SecurityProtocol, "sasl_") {
		return "it has no effect, because " + sc.say("security_protocol")
	}
	return ""
}

// checkBrokerSchemes drops brokers with another protocol than the connection's, like librdkafka.
func checkBrokerSchemes(sc *scope[Connection]) {
	var other, addresses, items []string
	for i, item := range strings.Split(sc.value.brokersText, ",") {
		scheme, _ := cutScheme(item)
		if scheme != "" && !strings.EqualFold(scheme, sc.value.SecurityProtocol) {
			other = append(other, strconv.Quote(item))
			continue
		}
		addresses, items = append(addresses, sc.value.Brokers[i]), append(items, item)
	}
	if len(other) == 0 {
		return
	}
	severity, rest := Error, "change"
	if len(items) > 0 {
		severity, rest = Warning, oneOrMore(len(items), "the other broker is", "the other brokers are")+" used, change"
		sc.value.Brokers, sc.value.brokersText = addresses, strings.Join(items, ",")
	}
	sc.report(severity, "brokers", fmt.Sprintf("holds %s, but %s; %s one of them or leave the protocol out of"+
		" brokers", strings.Join(other, ", "), sc.say("security_protocol"), rest))
}

func checkLinger(sc *scope[Connection]) {
	if sc.value.Linger >= sc.value.MessageTimeout {
		sc.report(Error, "linger_ms", fmt.Sprintf("must be less than message_timeout_ms, but %s; lower linger_ms or"+
			" raise message_timeout_ms", sc.say("message_timeout_ms")))
	}
}

// checkBackoff raises the ceiling to the first wait. The change is worth a line only for a ceiling chosen by
// the administrator.
func checkBackoff(sc *scope[Connection]) {
	c := sc.value
	if c.ReconnectBackoffMax >= c.ReconnectBackoff {
		return
	}
	const name = "reconnect_backoff_max_ms"
	c.ReconnectBackoffMax = c.ReconnectBackoff
	if sc.given(name) {
		sc.report(Warning, name, fmt.Sprintf("is out of range, because %s; %d is used instead, give at least %d",
			sc.say("reconnect_backoff_ms"), c.ReconnectBackoffMax.Milliseconds(), c.ReconnectBackoff.Milliseconds()))
	}
}

func checkSASL(sc *scope[Connection]) {
	c := sc.value
	if !strings.HasPrefix(c.SecurityProtocol, "sasl_") {
		return
	}
	for _, need := range []struct{ name, value string }{
		{"sasl_mechanisms", c.SASLMechanism},
		{"sasl_username", c.SASLUsername},
		{"sasl_password", c.SASLPassword.Reveal()},
	} {
		if need.value == "" && !sc.failed[need.name] {
			sc.report(Error, "security_protocol", fmt.Sprintf("needs %s, which is not set; %s", need.name,
				sc.table.option(need.name).advice()))
		}
	}
}

func checkUnusedSASL(sc *scope[Connection]) {
	if !strings.HasPrefix(sc.value.SecurityProtocol, "sasl_") {
		sc.warnUnused("sasl_plaintext or sasl_ssl", "sasl_mechanisms", "sasl_username", "sasl_password")
	}
}

func checkUnusedTLS(sc *scope[Connection]) {
	if !usesTLS(sc.value) {
		sc.warnUnused("ssl or sasl_ssl", "ssl_ca_location", "ssl_certificate_location", "ssl_key_location", hostCheck)
	}
}

// checkPassword warns of a password probably cut at a semicolon by Asterisk's loader: the connection string
// of an Azure Event Hubs namespace without its key.
func checkPassword(sc *scope[Connection]) {
	password := strings.ToLower(sc.value.SASLPassword.Reveal())
	if strings.HasPrefix(password, "endpoint=sb://") && !strings.Contains(password, "sharedaccesskey=") {
		sc.report(Warning, "sasl_password", "begins like a connection string and ends before its SharedAccessKey; "+semicolonHint)
	}
}

// semicolonHint explains a semicolon in a value. Asterisk's loader cuts a value at a bare semicolon.
const semicolonHint = `in kafka.conf a semicolon begins a comment; write \; for each one in the password`

// warnUnused warns of the first of the options with a value other than its default and without use in the
// security protocol.
func (sc *scope[T]) warnUnused(protocols string, names ...string) {
	for _, name := range names {
		if sc.failed[name] {
			return
		}
		if e, given := sc.set[name]; given && !strings.EqualFold(e.Value, sc.table.option(name).Default) {
			sc.report(Warning, name, fmt.Sprintf("is not used, because %s; give security_protocol = %s, or remove it",
				sc.say("security_protocol"), protocols))
			return
		}
	}
}

func usesTLS(c *Connection) bool {
	return c.SecurityProtocol == "ssl" || c.SecurityProtocol == "sasl_ssl"
}

// levels are the codecs' compression levels. The client does not offer zlib's 0 (store).
var levels = []struct {
	codec    string
	min, max int
}{
	{"gzip", 1, 9},
	{"lz4", 0, 12},
	{"zstd", 1, 12},
}

func levelText() string {
	var parts []string
	for _, l := range levels {
		parts = append(parts, fmt.Sprintf("%s %d to %d", l.codec, l.min, l.max))
	}
	return "Levels: " + strings.Join(parts, ", ") + "; the other codecs have none."
}

func checkLevel(sc *scope[Connection]) {
	c := sc.value
	if c.CompressionLevel == -1 {
		return
	}
	text := fmt.Sprintf("is not used, because %s has no levels; remove it", sc.say("compression_codec"))
	for _, l := range levels {
		if l.codec != c.CompressionCodec {
			continue
		}
		if c.CompressionLevel >= l.min && c.CompressionLevel <= l.max {
			return
		}
		text = fmt.Sprintf("is out of range for %s; the default -1 is used instead, give %d to %d",
			sc.say("compression_codec"), l.min, l.max)
	}
	c.CompressionLevel = -1
	sc.report(Warning, "compression_level", text)
}

func checkIdempotence(sc *scope[Connection]) {
	c := sc.value
	if c.Idempotence && c.Acks != -1 {
		sc.report(Error, "enable_idempotence", fmt.Sprintf("needs acks = -1, but %s; change one of them",
			sc.say("acks")))
	}
	if c.Idempotence && c.Retries == 0 {
		sc.report(Error, "enable_idempotence", fmt.Sprintf("needs retries, but %s; change one of them",
			sc.say("retries")))
	}
}

// checkSpoolSize warns of a spool too small for the connection's messages.
func checkSpoolSize(sc *scope[Connection]) {
	if int64(sc.value.SpoolMaxMbytes)<<20 < int64(sc.value.MessageMaxBytes) {
		sc.report(Warning, "spool_max_mbytes", fmt.Sprintf("is less than the largest message, because %s; such a message is"+
			" never kept on disk, raise spool_max_mbytes or lower message_max_bytes", sc.say("message_max_bytes")))
	}
}

// minimums has the lowest effective values of options. The first two are limits of the client library
// (kgo.ProduceRequestTimeout, kgo.AutoCommitInterval). Below the third, an unreachable broker would keep a
// processor busy.
var minimums = []struct {
	option, means string
	value         func(*Connection) time.Duration
	is            time.Duration
}{
	{"request_timeout_ms", "brokers are given", func(c *Connection) time.Duration { return c.RequestTimeout }, 100 * time.Millisecond},
	{"auto_commit_interval_ms", "offsets are committed every", func(c *Connection) time.Duration { return c.AutoCommitInterval }, 100 * time.Millisecond},
	{"reconnect_backoff_ms", "the first wait is", func(c *Connection) time.Duration { return c.ReconnectBackoff }, 10 * time.Millisecond},
}

func checkMinimums(sc *scope[Connection]) {
	for _, l := range minimums {
		if !sc.failed[l.option] && l.value(sc.value) < l.is {
			sc.report(Warning, l.option, fmt.Sprintf("is less than this client can do: %s %d ms, give at least that",
				l.means, l.is.Milliseconds()))
		}
	}
}

// checkDebug warns of contexts for parts of librdkafka without a counterpart here.
func checkDebug(sc *scope[Connection]) {
	var silent []string
	for _, context := range sc.value.Debug {
		if slices.Contains(silentContexts, context) {
			silent = append(silent, context)
		}
	}
	if len(silent) > 0 {
		sc.report(Warning, "debug", fmt.Sprintf("holds %s, of which this client has nothing to tell; remove it",
			strings.Join(silent, ", ")))
	}
}

func checkPollInterval(sc *scope[Connection]) {
	if sc.value.GroupID == "" || sc.value.MaxPollInterval >= sc.value.SessionTimeout {
		return
	}
	if sc.given("max_poll_interval_ms") {
		sc.report(Error, "max_poll_interval_ms", fmt.Sprintf("must be at least session_timeout_ms, but %s; raise"+
			" max_poll_interval_ms or lower session_timeout_ms", sc.say("session_timeout_ms")))
		return
	}
	sc.report(Error, "session_timeout_ms", fmt.Sprintf("must be at most max_poll_interval_ms, but %s; raise"+
		" max_poll_interval_ms or lower session_timeout_ms", sc.say("max_poll_interval_ms")))
}
