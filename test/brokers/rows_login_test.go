package brokers

import (
	"bytes"
	"regexp"

	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"github.com/twmb/franz-go/pkg/sasl/scram"

	"reskafka/test/wire"
)

func init() { rows = append(rows, loginRows...) }

var scramRounds = regexp.MustCompile(`,i=\d+`)

// loginRows are brokers that abuse a client's login.
var loginRows = []Row{
	loginRow("a login that asks for two thousand million rounds of SCRAM", "SCRAM-SHA-512", ",i=2147483647",
		"SASL: the broker asks for 2147483647 rounds of SCRAM, more than a million are not computed"),
	loginRow("a login that asks for a million and one rounds of SCRAM", "SCRAM-SHA-256", ",i=1000001",
		"SASL: the broker asks for 1000001 rounds of SCRAM"),
	loginRow("a login that asks for one round of SCRAM", "SCRAM-SHA-256", ",i=1",
		"SASL: the login by SCRAM failed: server iterations 1 less than minimum 4096"),
}

// loginRow is a broker with another number of rounds in its first answer to a login, three times.
func loginRow(name, mechanism, rounds, want string) Row {
	lying := wire.Key(kmsg.SASLAuthenticate, wire.Times(3, wire.Change(func(r *kmsg.SASLAuthenticateResponse) {
		r.SASLAuthBytes = scramRounds.ReplaceAll(bytes.Clone(r.SASLAuthBytes), []byte(rounds))
	})))
	credentials := scram.Auth{User: "alice", Pass: "secret"}
	login := credentials.AsSha256Mechanism()
	if mechanism == "SCRAM-SHA-512" {
		login = credentials.AsSha512Mechanism()
	}
	return Row{
		Name: name, Finding: "C5", Broker: []wire.Fault{lying},
		Kafka: []kfake.Opt{kfake.EnableSASL(), kfake.Superuser(mechanism, "alice", "secret")},
		Conf: []string{"security_protocol = sasl_plaintext", "sasl_mechanisms = " + mechanism, "sasl_username = alice",
			"sasl_password = secret", "request_timeout_ms = 2000"},
		Client:  []kgo.Opt{kgo.SASL(login)},
		Records: 10, Consume: true,
		Log:   []string{want, "is back after"},
		Shown: []string{want},
	}
}
