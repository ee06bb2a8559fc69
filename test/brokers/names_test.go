package brokers

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"reskafka/test/nameserver"
)

// The name servers of nameRows: the first never answers, the second has a habit for each name.
const silentServer, oddServer = "127.0.0.54", "127.0.0.53"

// habits are the behaviours of the second server, by the first label of the queried name.
var habits = map[string]func(nameserver.Question) nameserver.Answer{
	"honest":   nameserver.Honest("127.0.0.1"),
	"formerr":  onEDNS(nameserver.Answer{Code: nameserver.FormErr}),
	"notimp":   onEDNS(nameserver.Answer{Code: nameserver.NotImp}),
	"servfail": onEDNS(nameserver.Answer{Code: nameserver.ServFail}),
	"drops":    onEDNS(nameserver.Answer{Drop: true}),
	"nosix": func(q nameserver.Question) nameserver.Answer {
		a := nameserver.Honest("127.0.0.1")(q)
		a.Drop = q.Type == nameserver.AAAA
		return a
	},
	"slow": func(q nameserver.Question) nameserver.Answer {
		a := nameserver.Honest("127.0.0.1")(q)
		a.After = time.Second
		return a
	},
	"cut": func(q nameserver.Question) nameserver.Answer {
		if !q.TCP && q.Type == nameserver.A {
			return nameserver.Answer{Truncated: true}
		}
		return nameserver.Honest("127.0.0.1")(q)
	},
	"broken": func(nameserver.Question) nameserver.Answer { return nameserver.Answer{Code: nameserver.ServFail} },
}

func onEDNS(a nameserver.Answer) func(nameserver.Question) nameserver.Answer {
	return func(q nameserver.Question) nameserver.Answer {
		if q.EDNS {
			return a
		}
		return nameserver.Honest("127.0.0.1")(q)
	}
}

// answerByName answers names of the search domain by their habit, and knows no other names.
func answerByName(q nameserver.Question) nameserver.Answer {
	label, rest, _ := strings.Cut(q.Name, ".")
	if habit := habits[label]; habit != nil && rest == "kafka.example" {
		return habit(q)
	}
	return nameserver.Answer{Code: nameserver.NXDomain}
}

// nameRows are DNS servers with habits. The rows run in a network namespace with a private resolv.conf and
// hosts file.
var nameRows = []Row{
	{Name: "an honest DNS server behind a silent one", Host: "honest", Records: 10, Consume: true},
	{Name: "DNS: EDNS0 answered with FORMERR", Host: "formerr.kafka.example", Records: 10},
	{Name: "DNS: EDNS0 answered with NOTIMP", Host: "notimp.kafka.example", Records: 10},
	{Name: "DNS: EDNS0 answered with SERVFAIL", Host: "servfail.kafka.example", Records: 10},
	{Name: "DNS: EDNS0 dropped", Host: "drops.kafka.example", Records: 10},
	{Name: "DNS: AAAA unanswered", Host: "nosix.kafka.example", Records: 10},
	{Name: "DNS: a slow server", Host: "slow.kafka.example", Records: 10, Conf: []string{"socket_timeout_ms = 1000"}},
	{Name: "DNS: a name in the search domain, cut answers", Host: "cut", Records: 10},
	{Name: "DNS: a name of the hosts file", Host: "from-the-hosts-file", Records: 10},
	{
		Name: "DNS: no server answers", Host: "broken.kafka.example",
		Steps: func(b *Bench) error {
			p, err := b.Open("tested")
			if err != nil {
				return err
			}
			p.Put("waits")
			_, err = b.Log.Await(b.Ctx, "host name lookup failed: DNS server "+silentServer+" did not answer, DNS server "+
				oddServer+" answered SERVFAIL (see brokers; see /etc/resolv.conf)")
			return err
		},
		Log: []string{"host name lookup failed"},
	},
	{
		Name: "DNS: an unknown name", Host: "unknown.kafka.example",
		Steps: func(b *Bench) error {
			p, err := b.Open("tested")
			if err != nil {
				return err
			}
			p.Put("waits")
			_, err = b.Log.Await(b.Ctx, "host name not found by DNS server")
			return err
		},
		Log: []string{"host name not found"},
	},
}

// inNamespace is set in the environment of TestNameServers' process inside the namespace.
const inNamespace = "RES_KAFKA_TEST_NAMESPACE"

// TestNameServers checks nameRows. It runs itself again with private /etc/resolv.conf and /etc/hosts.
func TestNameServers(t *testing.T) {
	if os.Getenv(inNamespace) == "" {
		t.Parallel()
		runInNamespace(t)
		return
	}
	hear, err := net.ListenPacket("udp", silentServer+":53")
	if err != nil {
		t.Fatal(err)
	}
	defer hear.Close()
	server := nameserver.Start(t, oddServer+":53", answerByName)
	t.Run("rows", func(t *testing.T) {
		for i := range nameRows {
			row := &nameRows[i]
			t.Run(row.Name, func(t *testing.T) {
				t.Parallel()
				row.Check(t)
			})
		}
	})
	if server.Asked.Load() == 0 {
		t.Error("the server of the namespace was not asked")
	}
}

func runInNamespace(t *testing.T) {
	dir := t.TempDir()
	for name, text := range map[string]string{
		"resolv.conf": fmt.Sprintf("nameserver %s\nnameserver %s\nsearch kafka.example\n", silentServer, oddServer),
		"hosts":       "127.0.0.1 localhost from-the-hosts-file\n",
	} {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	const script = `ip link set lo up && mount --bind "$0/resolv.conf" /etc/resolv.conf && mount --bind "$0/hosts" /etc/hosts || exit 77
exec "$@"`
	cmd := exec.CommandContext(t.Context(), "unshare", "--net", "--mount", "sh", "-c", script, dir, self,
		"-test.run=^TestNameServers$", "-test.v", "-test.timeout=3m")
	cmd.Env = append(os.Environ(), inNamespace+"=1")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	out, err := cmd.CombinedOutput()
	failed, exited := errors.AsType[*exec.ExitError](err)
	switch {
	case err == nil:
	case !exited, failed.ExitCode() == 77, strings.HasPrefix(string(out), "unshare:"):
		t.Skipf("skipped: this user or machine makes no network namespace: %v: %s", err, out)
	default:
		t.Errorf("%v\n%s", err, out)
	}
}
