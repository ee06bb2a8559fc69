package dns

import (
	"context"
	"errors"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"reskafka/test/nameserver"
)

// habit makes an honest server answer otherwise where odd returns an answer.
func habit(odd func(nameserver.Question) *nameserver.Answer) func(nameserver.Question) nameserver.Answer {
	honest := nameserver.Honest("192.0.2.7")
	return func(q nameserver.Question) nameserver.Answer {
		if a := odd(q); a != nil {
			return *a
		}
		return honest(q)
	}
}

// TestResolver_ServersWithHabits_AnswerOrAreNamed queries servers that reject or drop EDNS0, ignore questions
// for IPv6 addresses, are slow, or truncate answers. Existing addresses are found; otherwise the error names
// the server.
func TestResolver_ServersWithHabits_AnswerOrAreNamed(t *testing.T) {
	onEDNS := func(a nameserver.Answer) func(nameserver.Question) nameserver.Answer {
		return habit(func(q nameserver.Question) *nameserver.Answer {
			if q.EDNS {
				return &a
			}
			return nil
		})
	}
	always := func(a nameserver.Answer) func(nameserver.Question) nameserver.Answer {
		return func(nameserver.Question) nameserver.Answer { return a }
	}
	cut := func(tcp nameserver.Answer, udp ...net.IP) func(nameserver.Question) nameserver.Answer {
		return habit(func(q nameserver.Question) *nameserver.Answer {
			switch {
			case q.Type != nameserver.A:
				return nil
			case q.TCP:
				return &tcp
			}
			return &nameserver.Answer{Truncated: true, Addresses: udp}
		})
	}
	address := net.IPv4(192, 0, 2, 7)
	for name, test := range map[string]struct {
		answer func(nameserver.Question) nameserver.Answer
		want   []string // addresses
		failed string   // the text of the error
	}{
		"honest":                {answer: nameserver.Honest("192.0.2.7"), want: []string{"192.0.2.7"}},
		"IPv6 only":             {answer: nameserver.Honest("2001:db8::7"), want: []string{"2001:db8::7"}},
		"EDNS0: FORMERR":        {answer: onEDNS(nameserver.Answer{Code: nameserver.FormErr}), want: []string{"192.0.2.7"}},
		"EDNS0: bare FORMERR":   {answer: onEDNS(nameserver.Answer{Code: nameserver.FormErr, Bare: true}), want: []string{"192.0.2.7"}},
		"EDNS0: NOTIMP":         {answer: onEDNS(nameserver.Answer{Code: nameserver.NotImp}), want: []string{"192.0.2.7"}},
		"EDNS0: SERVFAIL":       {answer: onEDNS(nameserver.Answer{Code: nameserver.ServFail}), want: []string{"192.0.2.7"}},
		"EDNS0: dropped":        {answer: onEDNS(nameserver.Answer{Drop: true}), want: []string{"192.0.2.7"}},
		"cut, whole by TCP":     {answer: cut(nameserver.Answer{Addresses: []net.IP{address}}), want: []string{"192.0.2.7"}},
		"cut, TCP drops":        {answer: cut(nameserver.Answer{Drop: true}, address), want: []string{"192.0.2.7"}},
		"bare SERVFAIL, always": {answer: always(nameserver.Answer{Code: nameserver.ServFail, Bare: true}), failed: "answered SERVFAIL"},
		"no such name":          {answer: always(nameserver.Answer{Code: nameserver.NXDomain}), failed: "no such host"},
		"silent":                {answer: always(nameserver.Answer{Drop: true}), failed: "did not answer"},
		"AAAA dropped": {answer: habit(func(q nameserver.Question) *nameserver.Answer {
			if q.Type == nameserver.AAAA {
				return &nameserver.Answer{Drop: true}
			}
			return nil
		}), want: []string{"192.0.2.7"}},
		"slow": {answer: habit(func(q nameserver.Question) *nameserver.Answer {
			a := nameserver.Honest("192.0.2.7")(q)
			a.After = time.Second
			return &a
		}), want: []string{"192.0.2.7"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			server := nameserver.Start(t, "127.0.0.1:0", test.answer)
			r := &Resolver{Redirect: func(string) string { return server.Address }}
			addrs, err := r.lookUp(context.Background(), "kafka.example", os.DevNull)
			var got []string
			for _, addr := range addrs {
				got = append(got, addr.String())
			}
			if !slices.Equal(got, test.want) {
				t.Errorf("addresses %v, want %v (%v)", got, test.want, err)
			}
			if server.EDNS.Load() > 0 {
				t.Error("a question had an EDNS0 record")
			}
			if test.failed == "" {
				return
			}
			failed, ok := errors.AsType[*net.DNSError](err)
			if !ok || !strings.Contains(failed.Err, test.failed) || failed.Server == "" {
				t.Errorf("error %+v, want %q and a server", err, test.failed)
			}
		})
	}
}

// TestResolver_SilentServer_WaitsLessWhenAnotherAnswers guards a lookup with many search domains against a
// full wait for the same dead server in each.
func TestResolver_SilentServer_WaitsLessWhenAnotherAnswers(t *testing.T) {
	r := &Resolver{}
	l := &lookup{resolver: r, heard: map[string]string{}}
	l.note("10.0.0.1:53", noAnswer)
	if got := r.patience("10.0.0.1:53"); got != maxQuestion {
		t.Errorf("the only server may take %v", got)
	}
	l.note("10.0.0.2:53", "")
	if got := r.patience("10.0.0.1:53"); got != maxSilent {
		t.Errorf("the silent server may take %v", got)
	}
	l.note("10.0.0.1:53", "")
	if got := r.patience("10.0.0.1:53"); got != maxQuestion {
		t.Errorf("the server that answers again may take %v", got)
	}
}

// TestResolver_Addresses_NeedNoServer checks that an address and a name of /etc/hosts cause no question.
func TestResolver_Addresses_NeedNoServer(t *testing.T) {
	server := nameserver.Start(t, "127.0.0.1:0", nameserver.Honest("192.0.2.7"))
	r := &Resolver{Redirect: func(string) string { return server.Address }}
	for host, want := range map[string]string{"192.0.2.1": "192.0.2.1", "2001:db8::1": "2001:db8::1", "fe80::1%lo": "fe80::1%lo"} {
		if addrs, err := r.Lookup(t.Context(), host); err != nil || len(addrs) != 1 || addrs[0].String() != want {
			t.Errorf("%s: %v, %v", host, addrs, err)
		}
	}
	if addrs, err := r.Lookup(t.Context(), "localhost"); err != nil || len(addrs) == 0 || !addrs[0].IsLoopback() {
		t.Errorf("localhost: %v, %v", addrs, err)
	}
	if n := server.Asked.Load(); n > 0 {
		t.Errorf("%d questions were asked", n)
	}
}

// TestResolver_CallerGivesUp_ReturnsItsError checks that a lookup ends with its context.
func TestResolver_CallerGivesUp_ReturnsItsError(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	server := nameserver.Start(t, "127.0.0.1:0", func(nameserver.Question) nameserver.Answer {
		cancel()
		return nameserver.Answer{Drop: true}
	})
	r := &Resolver{Redirect: func(string) string { return server.Address }}
	if _, err := r.Lookup(ctx, "kafka.example"); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

// TestResolver_CallersTimeIsUp_NamesServer guards `kafka topic create`, whose limit is shorter than the wait
// for two silent servers: the error named no server.
func TestResolver_CallersTimeIsUp_NamesServer(t *testing.T) {
	t.Parallel()
	server := nameserver.Start(t, "127.0.0.1:0", func(nameserver.Question) nameserver.Answer { return nameserver.Answer{Drop: true} })
	r := &Resolver{Redirect: func(string) string { return server.Address }}
	ctx, cancel := context.WithTimeout(t.Context(), maxQuestion+maxQuestion/4)
	defer cancel()
	_, err := r.lookUp(ctx, "kafka.example", os.DevNull)
	failed, ok := errors.AsType[*net.DNSError](err)
	if !ok || !failed.IsTimeout || !strings.Contains(failed.Err, "DNS server ") || errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("error %+v", err)
	}
}

// TestResolver_NameUnknownToDNS_AsksOtherSources guards names of mDNS or LDAP: a static program does not load
// the C library's modules. "127.1" replaces such a name, known to the C library and unknown to DNS.
func TestResolver_NameUnknownToDNS_AsksOtherSources(t *testing.T) {
	server := nameserver.Start(t, "127.0.0.1:0", func(nameserver.Question) nameserver.Answer { return nameserver.Answer{Code: nameserver.NXDomain} })
	r := &Resolver{Redirect: func(string) string { return server.Address }}
	for line, want := range map[string]bool{
		"hosts: files dns": false,
		"hosts: files [ NOTFOUND=continue UNAVAIL=return ] dns [!UNAVAIL=return]": false,
		"passwd: files ldap\n#hosts: ldap\nhosts: files # ldap":                   false,
		"hosts:\tfiles mdns4_minimal [NOTFOUND=return] dns":                       true,
		"passwd: files\n hosts: dns ldap # both":                                  true,
	} {
		sources := filepath.Join(t.TempDir(), "nsswitch.conf")
		if err := os.WriteFile(sources, []byte(line+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		addrs, err := r.lookUp(t.Context(), "127.1", sources)
		if found := len(addrs) == 1 && addrs[0].String() == "127.0.0.1" && err == nil; found != want {
			t.Errorf("%q: %v, %v", line, addrs, err)
		}
	}
}
