package event

import (
	"bytes"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"slices"
	"strings"
	"testing"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/record"
)

var update = flag.Bool("update", false, "write the golden files anew")

var testSystem = host.System{EntityID: "02:42:ac:11:00:02", Name: "pbx-1", Version: "22.6.0", Hostname: "pbx.example"}

var testNow = time.Unix(1795333900, 999_000_000)

func number(name string, value int64) Field { return Field{Name: name, Kind: Integer, Integer: value} }

func moment(name string, sec, usec int64) Field {
	return Field{Name: name, Kind: Time, Time: time.Unix(sec, usec*1000)}
}

func variable(name, value string) Field {
	return Field{Name: name, Kind: Variable, Text: []byte(value)}
}

// answered is a call in the form of the tap: every field, in the order of the C module's table.
func answered() []Field {
	return []Field{
		text("clid", `"Alice" <100>`), text("src", "100"), text("dst", "200"), text("dcontext", "internal"),
		text("channel", "PJSIP/alice-00000001"), text("dstchannel", "PJSIP/bob-00000002"),
		text("lastapp", "Dial"), text("lastdata", "PJSIP/bob,30,tT"),
		moment("start", 1795333839, 123456), moment("answer", 1795333845, 999999), moment("end", 1795333899, 0),
		number("duration", 60), number("billsec", 54),
		text("disposition", "ANSWERED"), text("accountcode", "acme"), text("amaflags", "DOCUMENTATION"),
		text("peeraccount", "globex"), text("linkedid", "1795333839.1"), number("sequence", 7),
		text("tenantid", "t-1"), text("peertenantid", "t-2"),
		text("uniqueid", "1795333839.1"), text("userfield", "note"),
	}
}

// with returns fields with some replaced by name, or added.
func with(fields []Field, others ...Field) []Field {
	for _, other := range others {
		at := slices.IndexFunc(fields, func(f Field) bool { return f.Name == other.Name && other.Kind != Variable })
		if at < 0 {
			fields = append(fields, other)
		} else {
			fields[at] = other
		}
	}
	return fields
}

func without(fields []Field, names ...string) []Field {
	return slices.DeleteFunc(fields, func(f Field) bool { return slices.Contains(names, f.Name) })
}

// newCDR creates a source for UTC, or for the named zone.
func newCDR(t *testing.T, c config.CDR, system host.System, zone string) *CDR {
	t.Helper()
	if c.Topic == "" {
		c.Connection, c.Topic = "my-kafka", "asterisk_cdr"
	}
	s := NewCDR(&c, system)
	s.zone = time.UTC
	if zone != "" {
		s.zone = location(t, zone)
	}
	return s
}

// madeUp is an invented call, with its expected record.
type madeUp struct {
	name   string
	config config.CDR
	system host.System // none = testSystem
	zone   string
	fields []Field
}

// madeUpCalls are the calls of testdata/calls.golden.
func madeUpCalls() []madeUp {
	noName := testSystem
	noName.Name = ""
	both := config.CDR{LogUniqueID: true, LogUserField: true}
	vars := func(c config.CDR, name string, pairs ...string) madeUp {
		fields := answered()
		for i := 0; i < len(pairs); i += 2 {
			fields = append(fields, variable(pairs[i], pairs[i+1]))
		}
		return madeUp{name: name, config: c, fields: fields}
	}
	return []madeUp{
		{name: "answered", fields: answered()},
		{name: "no answer", fields: with(answered(), moment("answer", 0, 0), number("billsec", 0),
			text("disposition", "NO ANSWER"))},
		{name: "no answer, half hour zone", zone: "Asia/Kolkata", fields: with(answered(), moment("answer", 0, 0),
			number("billsec", 0), text("disposition", "NO ANSWER"))},
		{name: "failed", zone: "America/St_Johns", fields: with(answered(), moment("answer", 0, 0),
			text("dstchannel", ""), number("duration", 0), number("billsec", 0), text("disposition", "FAILED"),
			text("accountcode", ""), text("peeraccount", ""), text("userfield", ""))},
		{name: "ids asked for", config: both, fields: answered()},
		{name: "uniqueid only", config: config.CDR{LogUniqueID: true}, fields: answered()},
		{name: "old Asterisk", fields: without(answered(), "tenantid", "peertenantid")},
		{name: "no system name", system: noName, fields: answered()},
		{name: "no system name, ids and variables", system: noName, config: both, fields: append(answered(), variable("queue", "sales"))},
		{name: "negative numbers", fields: with(answered(), number("duration", -1), number("billsec", -2), number("sequence", -2147483648))},
		{name: "large numbers", fields: with(answered(), number("duration", 2147483647), number("sequence", 2147483647))},
		{name: "escapes", fields: with(answered(), text("clid", "\"O'Hara\\\" <1/2>\b\f\n\r\t"), text("lastdata", "\x01\x1f\x7f/"))},
		{name: "UTF-8", fields: with(answered(), text("clid", "\"Zoë Müller\" <100>"), text("lastdata", "通話 😀 \u2028\ufffd"))},
		{name: "empty texts", fields: with(answered(), text("clid", ""), text("src", ""), text("dst", ""), text("channel", ""), text("linkedid", ""))},
		vars(config.CDR{LogUserField: true}, "variables", "queue", "sales", "note", "a \"b\"\n\\c/d", "queue", "support", "duration", "kept apart"),
		vars(config.CDR{LogUniqueID: true}, "variables replace fields", "dst", "300", "durationsec", "61", "uniqueid", "mine",
			"EntityID", "mine", "SystemName", "mine", "userfield", "mine"),
		vars(both, "ids replace variables", "userfield", "mine", "queue", "sales", "uniqueid", "mine"),
		vars(config.CDR{}, "variables with underscores", "_x", "1", "__y", "2", "x", "3", "_x", "4"),
		vars(config.CDR{}, "variables in another case", "SRC", "1", "Clid", "2"),
		vars(config.CDR{}, "variables without a value", "empty", "", "other", "o"),
		vars(config.CDR{}, "variables with odd names", "a b", "1", "quote\"", "2", "ünï", "3", "with/slash", "4", "line\n", "5"),
		vars(config.CDR{}, "a variable of numbers", "sequence", "9", "billsec", "many"),
		vars(config.CDR{}, "many variables", "v1", "1", "v2", "2", "v3", "3", "v4", "4", "v5", "5", "v6", "6", "v7", "7", "v8", "8", "v1", "again"),
		{name: "other order", fields: func() []Field {
			fields := append([]Field{variable("v", "1")}, answered()...)
			slices.Reverse(fields)
			return fields
		}()},
		{name: "not UTF-8", config: both,
			system: host.System{EntityID: "\xff", Name: "b\xfcro", Version: "v\xff", Hostname: "h\xff"},
			fields: append(notUTF8(answered()), variable("na\xefve", "caf\xe9"))},
	}
}

// Call records equal the records of the module on librdkafka byte for byte. The table was compared with the
// output of Jansson 2.15.1, the JSON library of that module, for objects set in its order; only "not UTF-8"
// is lost there.
func TestCDRValues_OfMadeUpCalls_AreThoseOfTheCModule(t *testing.T) {
	var table bytes.Buffer
	for _, c := range madeUpCalls() {
		system := c.system
		if system == (host.System{}) {
			system = testSystem
		}
		m, err := newCDR(t, c.config, system, c.zone).Encode(c.fields, testNow)
		if err != nil {
			t.Fatal(err)
		}
		if m.Topic != "asterisk_cdr" || m.Key != nil {
			t.Errorf("%s: topic %q, key %q; want asterisk_cdr and none", c.name, m.Topic, m.Key)
		}
		fmt.Fprintf(&table, "%s\n%s\n\n", c.name, m.Value)
	}
	const file = "testdata/calls.golden"
	if *update {
		if err := os.WriteFile(file, table.Bytes(), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	wanted, got := bytes.Split(want, []byte("\n\n")), bytes.Split(table.Bytes(), []byte("\n\n"))
	if len(wanted) != len(got) {
		t.Fatalf("%d calls, want %d", len(got), len(wanted))
	}
	for i := range got {
		if !bytes.Equal(got[i], wanted[i]) {
			t.Errorf("got  %s\nwant %s", got[i], wanted[i])
		}
	}
}

// notUTF8 spoils every text among the fields.
func notUTF8(fields []Field) []Field {
	for i := range fields {
		if fields[i].Kind == Text {
			fields[i].Text = append([]byte("\xff\xc3("), fields[i].Text...)
		}
	}
	return fields
}

// The tap and the record have the same name for a variable. No call shows this: Asterisk cuts underscores
// when it copies the variables of a channel, and only a record of another module can have underscores.
func TestTap_NamesVariables_InFull(t *testing.T) {
	source, err := os.ReadFile("../../modules/cdr_kafka.c")
	if err != nil {
		t.Fatal(err)
	}
	if !bytes.Contains(source, []byte("ast_var_full_name(")) || bytes.Contains(source, []byte("ast_var_name(")) {
		t.Error("modules/cdr_kafka.c does not take the whole name of a variable")
	}
}

// The tap sends all fields; fields outside the contract are not published.
func TestCDRLeavesOutWhatTheContractDoesNotName(t *testing.T) {
	s := newCDR(t, config.CDR{}, testSystem, "")
	plain, _ := s.Encode(answered(), testNow)
	more, _ := s.Encode(append(answered(), text("flags", "1")), testNow)
	if !bytes.Equal(plain.Value, more.Value) {
		t.Errorf("got %s", more.Value)
	}
}

func TestCDRKeys(t *testing.T) {
	for _, c := range []struct {
		key    string
		fields []Field
		want   []byte
	}{
		{"", answered(), nil},
		{"linkedid", answered(), []byte("1795333839.1")},
		{"uniqueid", answered(), []byte("1795333839.1")}, // even without uniqueid in the value
		{"channel", answered(), []byte("PJSIP/alice-00000001")},
		{"dstchannel", answered(), []byte("PJSIP/bob-00000002")},
		{"accountcode", answered(), []byte("acme")},
		{"src", answered(), []byte("100")},
		{"dst", answered(), []byte("200")},
		{"dcontext", answered(), []byte("internal")},
		{"tenantid", answered(), []byte("t-1")},
		{"peertenantid", answered(), []byte("t-2")},
		{"PeerTenantID", answered(), []byte("t-2")},
		{"dstchannel", with(answered(), text("dstchannel", "")), []byte{}},
		{"dst", with(answered(), text("dst", "\xff\x01")), []byte("\xff\x01")},
		{"dst", append(answered(), variable("dst", "300")), []byte("200")},
		{"tenantid", without(answered(), "tenantid"), nil},
	} {
		m, err := newCDR(t, config.CDR{Key: c.key}, testSystem, "").Encode(c.fields, testNow)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(m.Key, c.want) || (m.Key == nil) != (c.want == nil) {
			t.Errorf("key = %s: got %#v, want %#v", c.key, m.Key, c.want)
		}
	}
}

func TestCDRHeaders(t *testing.T) {
	want := []record.Header{
		{Name: "entity_id", Value: []byte("02:42:ac:11:00:02")},
		{Name: "system_name", Value: []byte("pbx-1")},
		{Name: "asterisk_version", Value: []byte("22.6.0")},
		{Name: "timestamp", Value: []byte("1795333900")},
		{Name: "hostname", Value: []byte("pbx.example")},
	}
	m, _ := newCDR(t, config.CDR{}, testSystem, "").Encode(answered(), testNow)
	if !reflect.DeepEqual(m.Headers, want) {
		t.Errorf("got %q", m.Headers)
	}
	noName := testSystem
	noName.Name = ""
	m, _ = newCDR(t, config.CDR{}, noName, "").Encode(answered(), testNow)
	if !reflect.DeepEqual(m.Headers, slices.Delete(want, 1, 2)) {
		t.Errorf("without a system name: got %q", m.Headers)
	}
}

// The frame of the fields is reused after the return of Encode.
func TestMessageOwnsItsBytes(t *testing.T) {
	fields := append(answered(), variable("v", "value"))
	s := newCDR(t, config.CDR{Key: "channel"}, testSystem, "")
	m, _ := s.Encode(fields, testNow)
	value, key := string(m.Value), string(m.Key)
	for _, f := range fields {
		for i := range f.Text {
			f.Text[i] = '#'
		}
	}
	other, _ := s.Encode(fields, testNow.Add(time.Hour))
	if string(m.Value) != value || string(m.Key) != key || string(m.Headers[3].Value) != "1795333900" {
		t.Error("the message changed with the fields it was made from, or with the next message")
	}
	if got := string(other.Headers[3].Value); got != "1795337500" {
		t.Errorf("the message of an hour later says it was made at %s", got)
	}
	if strings.Contains(string(other.Value), "alice") {
		t.Error("the second message still has the first one's fields")
	}
}

func TestSources(t *testing.T) {
	seen := map[string]bool{}
	for _, s := range Sources {
		if s.Kind == "" || s.Module == "" || s.File == "" || s.Open == nil || seen[s.Kind] {
			t.Errorf("row %q is incomplete or there twice", s.Kind)
		}
		seen[s.Kind] = true
		if got, ok := Lookup(s.Kind); !ok || got.Module != s.Module {
			t.Errorf("Lookup(%q) does not find it", s.Kind)
		}
	}
	if _, ok := Lookup("nonsense"); ok {
		t.Error("Lookup finds what is not there")
	}
}

// conf makes the entries of a [global] section of name, value pairs.
func conf(pairs ...string) []config.Entry {
	entries := []config.Entry{{Section: "global"}}
	for i := 0; i < len(pairs); i += 2 {
		entries = append(entries, config.Entry{File: "cdr_kafka.conf", Line: i/2 + 2, Section: "global",
			Name: pairs[i], Value: pairs[i+1]})
	}
	return entries
}

func TestOpenCDR(t *testing.T) {
	cdr, _ := Lookup("cdr")
	s, problems := cdr.Open(conf("connection", "billing"), testSystem)
	if s == nil || len(problems) > 0 || s.Connection() != "billing" {
		t.Fatalf("got %v, %v", s, problems)
	}
	if m, err := s.Encode(answered(), testNow); err != nil || m.Topic != "asterisk_cdr" || m.Key != nil {
		t.Errorf("topic %q, key %q, %v; want the defaults", m.Topic, m.Key, err)
	}
	s, problems = cdr.Open(conf("topic", "t"), testSystem)
	if s != nil || !config.HasErrors(problems) {
		t.Errorf("without a connection: got %v, %v", s, problems)
	}
}

// Every key of the configuration must be a usable field, and vice versa.
func TestKeysOfTheConfigurationAreFields(t *testing.T) {
	cdr, _ := Lookup("cdr")
	for _, f := range cdrFields {
		s, problems := cdr.Open(conf("connection", "c", "topic", "t", "key", f.name), testSystem)
		if s == nil || (len(problems) == 0) != f.key {
			t.Errorf("key = %s: source %v, offered %t, problems %v", f.name, s, f.key, problems)
			continue
		}
		m, _ := s.Encode(answered(), testNow)
		if !f.key {
			if m.Key != nil {
				t.Errorf("key = %s: got %q", f.name, m.Key)
			}
			continue
		}
		if i := slices.IndexFunc(answered(), func(a Field) bool { return a.Name == f.name }); string(m.Key) != string(answered()[i].Text) {
			t.Errorf("key = %s: got %q", f.name, m.Key)
		}
	}
}

func TestLocalZone(t *testing.T) {
	data, err := os.ReadFile("/usr/share/zoneinfo/Asia/Kolkata")
	if err != nil {
		t.Skip("no zone files here: ", err)
	}
	file := filepath.Join(t.TempDir(), "localtime")
	if err := os.WriteFile(file, data, 0o644); err != nil {
		t.Fatal(err)
	}
	// As Asterisk, which goes by the file: TZ=… asterisk prints the same times as without.
	t.Setenv("TZ", "America/St_Johns")
	if got, want := string(appendTime(nil, time.Unix(0, 0), localZone(file))), "1970-01-01T05:30:00.000+0530"; got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if err := os.WriteFile(file, []byte("nonsense"), 0o644); err != nil {
		t.Fatal(err)
	}
	for _, broken := range []string{file, filepath.Join(t.TempDir(), "missing")} {
		if got := localZone(broken); got != time.UTC {
			t.Errorf("%s: got %v, want UTC", broken, got)
		}
	}
}

// TestCallRecordNeedsTheMemoryOfItsMessage checks the allocations of an encoded record: value and key in one
// piece, independent of the number of fields. Measured with Go 1.26: 1.0.
func TestCallRecordNeedsTheMemoryOfItsMessage(t *testing.T) {
	const ceiling = 4 // the race detector has sync.Pool forget at random, which then costs two or three more
	s := NewCDR(&config.CDR{Connection: "c", Topic: "t", Key: "linkedid"}, testSystem)
	for name, fields := range map[string][]Field{
		"as it is":        answered(),
		"with a variable": append(answered(), variable("queue", "sales")),
	} {
		n := testing.AllocsPerRun(500, func() { _, _ = s.Encode(fields, testNow) })
		t.Logf("%s: %.1f allocations", name, n)
		if n > ceiling {
			t.Errorf("%s: %.1f allocations, at most %d are allowed", name, n, ceiling)
		}
		m, _ := s.Encode(fields, testNow)
		if room := cap(m.Value) + cap(m.Key); room > 2*(len(m.Value)+len(m.Key)) {
			t.Errorf("%s: %d bytes of memory for %d", name, room, len(m.Value)+len(m.Key))
		}
	}
}

func BenchmarkCDR(b *testing.B) {
	s := NewCDR(&config.CDR{Connection: "c", Topic: "t", Key: "linkedid"}, testSystem)
	fields := append(answered(), variable("queue", "sales"))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = s.Encode(fields, testNow)
	}
}
