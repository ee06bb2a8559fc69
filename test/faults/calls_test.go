package faults

import (
	"fmt"
	"regexp"
	"strings"
	"testing"

	"reskafka/test/pbx"
)

const callFiles = "[calls]\nexten => s,1,Answer()\n same => n,Wait(600)\n"

var measured = regexp.MustCompile(`completed (\d+)( setup .*)`)

// TestCallsWhileTheBrokerIsFrozen verifies the start and end of calls while call records wait for a frozen
// broker. The durations, with our modules and without, are below the table.
func TestCallsWhileTheBrokerIsFrozen(t *testing.T) {
	size := theSize(t)
	count := 300
	if size.short {
		t.Parallel()
		count = 50
	}
	files := map[string]string{
		"extensions.conf": callFiles,
		"cdr.conf":        "[general]\nenable = yes\nunanswered = yes\n",
		"cdr_kafka.conf":  "[global]\nconnection = memory\n",
	}
	s := newSite(t, setup{on: onEmbedded, modes: []mode{memory}, modules: []string{"cdr_kafka", "call_probe"}, files: files, size: size})
	without, err := pbx.New(pbx.Config{
		Dir: s.dir + "/without", Root: s.root, Install: s.install(), Modules: append(pbx.StockModules(), "call_probe"), Files: files,
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := without.Stop(pbx.Now); err != nil {
			t.Error(err)
		}
	})
	if err := without.Start(s.ctx); err != nil {
		t.Fatal(err)
	}

	probe := func(p *pbx.PBX, what string) {
		t.Helper()
		printed, err := p.CLI(fmt.Sprintf("call probe s@calls/n %d", count))
		if err != nil {
			t.Fatal(err)
		}
		m := measured.FindStringSubmatch(printed)
		if m == nil || m[1] != fmt.Sprint(count) {
			t.Errorf("%s: of %d calls: %s", what, count, printed)
			return
		}
		t.Logf("%s:%s", what, m[2])
		note("%d calls %s:%s", count, what, m[2])
	}
	probe(without, "without our modules")
	probe(s.pbx, "with the broker up")
	s.load()
	s.acknowledged()
	if err := s.brokers.freeze(); err != nil {
		t.Fatal(err)
	}
	s.produced(size.around)
	probe(s.pbx, "with the broker frozen, under load")
	s.unload()
	probe(s.pbx, "with the broker frozen")
	if err := s.brokers.thaw(); err != nil {
		t.Fatal(err)
	}
	s.drain()
	want := fmt.Sprintf(`(?m)^asterisk_cdr +%d +%d +0 `, 3*count, 3*count)
	if shown := s.cli("kafka show connection memory"); !regexp.MustCompile(want).MatchString(shown) {
		t.Errorf("%d calls have other than as many records\n%s", 3*count, shown[strings.Index(shown, "Messages:"):])
	}
}
