package scenario

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"unicode/utf8"

	"reskafka/test/pbx"
)

// baseFields are the members of a call's record, in their order, before the call's variables.
var baseFields = []string{
	"clid", "src", "dst", "dcontext", "channel", "dstchannel", "lastapp", "lastdata", "start", "answer", "end",
	"durationsec", "billsec", "disposition", "accountcode", "amaflags", "peeraccount", "linkedid", "sequence",
}

// fieldsOf returns the base fields of the world's Asterisk. Older versions have no tenants.
func fieldsOf(w *world) []string {
	header, err := os.ReadFile(filepath.Join(w.root, "usr/include/asterisk/channel.h"))
	if err != nil {
		w.Fatal(err)
	}
	if !bytes.Contains(header, []byte("AST_MAX_TENANT_ID")) {
		return baseFields
	}
	return append(slices.Clone(baseFields), "tenantid", "peertenantid")
}

// members returns the names of a JSON object's members in order.
func members(t *testing.T, text string) []string {
	t.Helper()
	decoder := json.NewDecoder(strings.NewReader(text))
	var names []string
	for depth := 0; ; {
		token, err := decoder.Token()
		if err != nil {
			if len(names) == 0 {
				t.Fatalf("%v in %s", err, text)
			}
			return names
		}
		switch token {
		case json.Delim('{'):
			depth++
			continue
		case json.Delim('}'):
			depth--
			continue
		}
		names = append(names, token.(string))
		if _, err := decoder.Token(); err != nil {
			t.Fatal(err)
		}
	}
}

// timeLike is how ast_json_timeval prints a time.
var timeLike = regexp.MustCompile(`^\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}[+-]\d{4}$`)

// callRecord checks the members common to all call records and returns the members.
func callRecord(w *world, r pbx.Record, extra ...string) map[string]any {
	w.Helper()
	value := text(r.Payload)
	if got, want := members(w.T, value), slices.Concat(fieldsOf(w), extra); !slices.Equal(got, want) {
		w.Errorf("members\n%v\nwant\n%v", got, want)
	}
	var call map[string]any
	if err := json.Unmarshal([]byte(value), &call); err != nil {
		w.Fatal(err)
	}
	for _, name := range fieldsOf(w) {
		_, number := call[name].(float64)
		if want := slices.Contains([]string{"durationsec", "billsec", "sequence"}, name); number != want {
			w.Errorf("%s is %T in %s", name, call[name], value)
		}
	}
	for _, name := range []string{"start", "answer", "end"} {
		if !timeLike.MatchString(call[name].(string)) {
			w.Errorf("%s is %s", name, call[name])
		}
	}
	headers := map[string]string{}
	var names []string
	for i := 0; i+1 < len(r.Headers); i += 2 {
		names = append(names, r.Headers[i])
		headers[r.Headers[i]] = r.Headers[i+1]
	}
	if want := []string{"entity_id", "asterisk_version", "timestamp", "hostname"}; !slices.Equal(names, want) {
		w.Errorf("headers %v, want %v", names, want)
	}
	if headers["entity_id"] != call["EntityID"] || !regexp.MustCompile(`^\d{10}$`).MatchString(headers["timestamp"]) || headers["hostname"] == "" {
		w.Errorf("headers %v", headers)
	}
	return call
}

// unset matches a time without a value. The zone is the machine's.
var unset = regexp.MustCompile(`^1970-01-01T|^1969-12-31T`)

func TestCallRecords(t *testing.T) { everywhere(t, callRecords) }

func callRecords(t *testing.T, on kind) {
	w := newWorld(t, options{on: on, modules: append([]string{"func_callerid"}, allOurs...), files: map[string]string{
		"cdr_kafka.conf": "[global]\nconnection = one\ntopic = calls-%ID%\nkey = linkedid\nloguniqueid = yes\nloguserfield = yes\n",
		"extensions.conf": "[calls]\n" +
			"exten => answered,1,Set(CALLERID(all)=\"Zoë \xff\" <100>)\n" +
			" same => n,Set(CDR(accountcode)=acme)\n same => n,Set(CDR(userfield)=u)\n" +
			" same => n,Set(CDR(campaign)=a\"b\\\\c\xfe)\n same => n,Set(CDR(dst)=x)\n" +
			" same => n,Answer()\n same => n,Wait(0.2)\n same => n,Hangup()\n" +
			"exten => unanswered,1,Wait(0.2)\n same => n,Hangup()\n" +
			"exten => failed,1,Hangup(34)\n",
	}})

	w.cli("channel originate Local/answered@calls/n application Echo")
	answered := w.read(w.name("calls"), 2)
	var inbound pbx.Record
	for _, r := range answered {
		if strings.Contains(text(r.Payload), `;2"`) {
			inbound = r
		}
	}
	call := callRecord(w, inbound, "EntityID", "campaign", "uniqueid", "userfield")
	for name, want := range map[string]any{
		"disposition": "ANSWERED", "src": "100", "dst": "answered", "dcontext": "calls", "lastapp": "Hangup", "lastdata": "",
		"accountcode": "acme", "userfield": "u", "amaflags": "DOCUMENTATION", "dstchannel": "",
	} {
		if call[name] != want {
			w.Errorf("%s is %v, want %v", name, call[name], want)
		}
	}
	if call["billsec"].(float64) > call["durationsec"].(float64) || unset.MatchString(call["answer"].(string)) {
		w.Errorf("an answered call has answer %v, billsec %v, durationsec %v", call["answer"], call["billsec"], call["durationsec"])
	}
	if text(inbound.Key) != call["linkedid"] {
		w.Errorf("key %s, linkedid %v", text(inbound.Key), call["linkedid"])
	}
	if clid := call["clid"].(string); !utf8.ValidString(clid) || !strings.Contains(clid, "Zo\u00eb \ufffd") {
		w.Errorf("clid %q: what is UTF-8 must be kept and the rest replaced", clid)
	}
	if campaign := call["campaign"]; !strings.HasSuffix(campaign.(string), "\ufffd") || !strings.HasPrefix(campaign.(string), `a"b`) {
		w.Errorf("campaign %q", campaign)
	}

	w.cli("channel originate Local/unanswered@calls/n application Echo")
	count := len(answered)
	found := func(disposition string) map[string]any {
		for {
			count++
			for _, r := range w.read(w.name("calls"), count)[len(answered):] {
				if strings.Contains(text(r.Payload), `;2"`) {
					answered = w.read(w.name("calls"), count)
					got := callRecord(w, r, "EntityID", "uniqueid", "userfield")
					if got["disposition"] != disposition {
						w.Errorf("disposition %v, want %s", got["disposition"], disposition)
					}
					return got
				}
			}
		}
	}
	if call := found("NO ANSWER"); !unset.MatchString(call["answer"].(string)) || call["billsec"] != 0.0 {
		w.Errorf("an unanswered call has answer %v and billsec %v", call["answer"], call["billsec"])
	}
	w.cli("channel originate Local/failed@calls/n application Echo")
	found("FAILED")
}

func TestCallRecordKeysTopicsAndReloads(t *testing.T) {
	w := newWorld(t, options{files: map[string]string{
		"cdr_kafka.conf":  "[global]\nconnection = one\ntopic = calls.of.branch\n",
		"extensions.conf": "[calls]\nexten => s,1,Answer()\n same => n,Hangup()\n",
	}})
	w.cli("channel originate Local/s@calls/n application Echo")
	r := w.read("calls.of.branch", 1)[0]
	if r.Key != nil {
		w.Errorf("key %q without a configured one", *r.Key)
	}
	callRecord(w, r, "EntityID")

	// A reload sets another topic and key. A faulty reload changes nothing.
	write := func(text string) {
		if err := w.pbx.WriteFile("cdr_kafka.conf", text); err != nil {
			w.Fatal(err)
		}
	}
	write("[global]\nconnection = one\ntopic = other\nkey = dst\n")
	w.cli("module reload cdr_kafka.so")
	w.cli("channel originate Local/s@calls/n application Echo")
	if r := w.read("other", 1)[0]; text(r.Key) != "s" {
		w.Errorf("key %s, want the called extension", text(r.Key))
	}
	mark := w.pbx.LogMark()
	write("[global]\nconnection = one\nkeys = dst\n")
	w.cli("module reload cdr_kafka.so")
	w.waitLog(mark, `ERROR.*cdr_kafka\.conf:3: \[global\] keys`)
	w.cli("channel originate Local/s@calls/n application Echo")
	w.read("other", 3)
}
