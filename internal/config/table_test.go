package config

import (
	"reflect"
	"regexp"
	"strings"
	"testing"
	"time"
)

// The order of the options is part of the documentation: the contract's order, with additional options beside
// related options.
func TestOrderOfOptions(t *testing.T) {
	want := strings.Fields(`brokers client_id request_timeout_ms message_timeout_ms socket_timeout_ms connections_max_idle_ms
		reconnect_backoff_ms reconnect_backoff_max_ms security_protocol sasl_mechanisms sasl_username sasl_password
		ssl_ca_location ssl_certificate_location ssl_key_location ssl_endpoint_identification_algorithm
		message_max_bytes compression_codec compression_level linger_ms batch_num_messages batch_size request_max_bytes queue_buffering_max_messages
		queue_buffering_max_kbytes acks retries enable_idempotence durability spool_dir spool_max_mbytes spool_sync spool_full
		spool_max_hours flush_timeout_ms group_id auto_offset_reset enable_auto_commit
		auto_commit_interval_ms session_timeout_ms max_poll_interval_ms debug`)
	var got []string
	for _, o := range connectionTable.Options {
		got = append(got, o.Name)
	}
	if !reflect.DeepEqual(got, want) {
		t.Errorf("got  %v\nwant %v", got, want)
	}
}

func TestRowsAreComplete(t *testing.T) {
	checkRows(t, &generalTable)
	checkRows(t, &connectionTable)
	checkRows(t, &cdrTable)
}

// checkRows checks that every row has the parts for the documents, and that every field of T has exactly one
// row.
func checkRows[T any](t *testing.T, table *Table[T]) {
	t.Helper()
	name, sentence := regexp.MustCompile(`^[a-z][a-z_]*$`), regexp.MustCompile(`^[A-Z0-9-].*[.]$`)
	var value T
	fields, labels := map[any]string{}, map[string]string{}
	for i := range table.Options {
		o := &table.Options[i]
		switch {
		case !name.MatchString(o.Name):
			t.Errorf("name %q", o.Name)
		case o.Label == "" || len(o.Label) > 28 || labels[o.Label] != "":
			t.Errorf("%s: label %q is empty, too long or also that of %s", o.Name, o.Label, labels[o.Label])
		case o.Since == "" || o.Short == "" || strings.HasSuffix(o.Short, ".") || len(o.Short) > 90:
			t.Errorf("%s: since %q, short %q", o.Name, o.Since, o.Short)
		case !sentence.MatchString(o.Long) || !isASCII(o.Short+o.Long):
			t.Errorf("%s: long %q is not made of sentences", o.Name, o.Long)
		case o.Default == "" && o.Example == "":
			t.Errorf("%s has neither a default nor an example", o.Name)
		case (o.Kind == Enumeration || o.Kind == WordList) && len(o.Words) == 0:
			t.Errorf("%s has no words", o.Name)
		case (o.Kind == Milliseconds) != (o.Unit == "ms"):
			t.Errorf("%s has unit %q", o.Name, o.Unit)
		}
		labels[o.Label] = o.Name
		field := o.field(&value)
		if !slotOf(o.Kind, field) {
			t.Errorf("%s is kept in a %T", o.Name, field)
		}
		if b, ok := field.(brokerField); ok {
			fields[b.text] = o.Name
			field = b.addresses
		}
		if other := fields[field]; other != "" {
			t.Errorf("%s and %s share a field", o.Name, other)
		}
		fields[field] = o.Name
		checkExample(t, o)
	}
	v := reflect.ValueOf(&value).Elem()
	for i := range v.NumField() {
		f := v.Type().Field(i)
		address := reflect.NewAt(f.Type, v.Field(i).Addr().UnsafePointer()).Interface()
		if place := f.Name == "Name" || f.Name == "File" || f.Name == "Line" || f.Name == "Connections" || f.Name == "LeftOut" || strings.HasPrefix(f.Name, "No") || f.Name == "contents"; place {
			continue
		}
		if fields[address] == "" && !(f.Name == "Connection" && table.Section == "global") {
			t.Errorf("no option fills %s", f.Name)
		}
	}
}

// slotOf reports whether values of a kind fit a field.
func slotOf(kind Kind, field any) bool {
	ok := false
	switch kind {
	case Text, PEMFile, Directory, Topic, Enumeration:
		_, ok = field.(*string)
	case SecretText:
		_, ok = field.(*Secret)
	case Number:
		_, ok = field.(*int)
	case Milliseconds:
		_, ok = field.(*time.Duration)
	case Boolean:
		_, ok = field.(*bool)
	case WordList:
		_, ok = field.(*[]string)
	case BrokerList:
		_, ok = field.(brokerField)
	}
	return ok
}

// checkExample parses the default and the example in the form of an administrator.
func checkExample[T any](t *testing.T, o *Option[T]) {
	t.Helper()
	for _, text := range []string{o.Default, o.Example} {
		var into T
		if text == "" {
			continue
		}
		if f := o.set(&into, text); f != nil {
			t.Errorf("%s = %s %s", o.Name, text, f.text)
		}
		if got := o.render(&into); o.Kind != SecretText && strings.TrimSuffix(got, " ms") != text {
			t.Errorf("%s = %s is shown as %s", o.Name, text, got)
		}
	}
}

func isASCII(text string) bool {
	for _, r := range text {
		if r > 126 {
			return false
		}
	}
	return true
}

func TestRulesNameOptions(t *testing.T) {
	for _, r := range connectionTable.rules {
		for _, name := range r.options {
			if connectionTable.option(name) == nil {
				t.Errorf("rule %q is about %s, which is no option", r.name, name)
			}
		}
	}
	for _, name := range connectionTable.front {
		if connectionTable.option(name) == nil {
			t.Errorf("%s is to be shown first, but is no option", name)
		}
	}
}

func TestNearest(t *testing.T) {
	known := make([]*Info, len(connectionTable.Options))
	for i := range connectionTable.Options {
		known[i] = &connectionTable.Options[i].Info
	}
	for name, want := range map[string]string{
		"lingr_ms": "linger_ms", "linger": "linger_ms", "linger.ms": "linger_ms", "LINGER-MS": "linger_ms",
		"broker": "brokers", "bootstrap.servers": "brokers", "sasl.mechanism": "sasl_mechanisms",
		"ssl_ca": "ssl_ca_location", "password": "sasl_password", "ack": "acks", "request.required.acks": "acks",
		"message_max_byte": "message_max_bytes", "queue.buffering.max.messages": "queue_buffering_max_messages",
		"group.id": "group_id", "groupid": "group_id", "autocommit": "", "x": "", "colour": "", "": "", "ax": "",
		"transactional_id": "",
	} {
		got := ""
		if near := nearest(name, known); near != nil {
			got = near.Name
		}
		if got != want {
			t.Errorf("%q is near %q, want %q", name, got, want)
		}
	}
}

func TestDistance(t *testing.T) {
	for _, c := range []struct {
		a, b string
		want int
	}{
		{"", "", 0}, {"", "abc", 3}, {"abc", "", 3}, {"abc", "abc", 0}, {"abc", "acb", 1}, {"abc", "abd", 1},
		{"abc", "ab", 1}, {"ab", "xaby", 2}, {"kitten", "sitting", 3},
	} {
		if got := distance(c.a, c.b); got != c.want {
			t.Errorf("%q to %q: got %d, want %d", c.a, c.b, got, c.want)
		}
	}
}

func TestBrokerAddress(t *testing.T) {
	for item, want := range map[string]string{
		"kafka1": "kafka1:9092", "kafka1:19092": "kafka1:19092", "10.0.0.7": "10.0.0.7:9092", "::1": "[::1]:9092",
		"[::1]": "[::1]:9092", "[::1]:9093": "[::1]:9093", "PLAINTEXT://kafka1": "kafka1:9092",
		"ssl://[2001:db8::7]:9093/x": "[2001:db8::7]:9093", "kafka1:9092/path/more": "kafka1:9092",
		"kafka_1.example.com:9092": "kafka_1.example.com:9092", "fe80::1%eth0": "[fe80::1%eth0]:9092",
		"müller:9092": "müller:9092",
		":9092":       "localhost:9092", "kafka1:9092tls": "kafka1:9092", "kafka1:+9092": "kafka1:9092", "kafka1: 9092": "kafka1:9092",
		"": "", ":": "", "kafka1:abc": "", "kafka1:": "", "kafka1:0": "", "kafka1:65536": "", "kafka1:-1": "", "kafka1:9092:9093": "",
		"[::1": "", "[kafka1]:9092": "", "a b": "", "://kafka1": "", "[]": "", "[::1]9092": "", "::1]": "", "fe80::1%a;b": "",
	} {
		got, _, err := brokerAddress(item)
		if got != want || (err == nil) != (want != "") {
			t.Errorf("%q: got %q, %v; want %q", item, got, err, want)
		}
	}
}
