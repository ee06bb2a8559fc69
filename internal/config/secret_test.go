package config_test

import (
	"encoding/json"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"reskafka/internal/config"
	"reskafka/internal/config/configtest"
)

// password is the password in all test files, never to be printed.
const password = "hunter2-5f3a"

// renderings returns all printed forms of a value.
func renderings(t *testing.T, value any) []string {
	t.Helper()
	var out []string
	for _, verb := range []string{"v", "+v", "#v", "s", "q", "x", "X", "d", "b", "o", "c", "U", "e", "f", "g", "t"} {
		out = append(out, fmt.Sprintf("%"+verb, value))
	}
	text, err := json.Marshal(value)
	if err != nil {
		t.Fatal(err)
	}
	var b strings.Builder
	slog.New(slog.NewTextHandler(&b, nil)).Info("", "value", value)
	slog.New(slog.NewJSONHandler(&b, nil)).Info("", "value", value)
	return append(out, string(text), b.String(), fmt.Sprintln(value))
}

func TestSecretIsNeverPrinted(t *testing.T) {
	c := parse(t, "[a]\ntype = connection\nsecurity_protocol = sasl_ssl\nsasl_mechanisms = PLAIN\n"+
		"sasl_username = asterisk\nsasl_password = "+password+"\n")
	if c.SASLPassword.Reveal() != password {
		t.Fatal("the password was not read")
	}
	for _, value := range []any{c, *c, &config.Kafka{Connections: []*config.Connection{c}}, c.SASLPassword, c.Settings()} {
		for _, text := range renderings(t, value) {
			if leaks(text) || !hides(text) {
				t.Errorf("%T is printed as %s", value, text)
			}
		}
	}
}

// hides looks for the stars of a hidden password, as text and as hexadecimal: without stars the password is
// absent, not hidden, and the test would prove nothing.
func hides(text string) bool {
	return strings.Contains(text, "***") || strings.Contains(text, "2a2a2a") || strings.Contains(text, "2A2A2A")
}

// leaks looks for the password as text and as hexadecimal.
func leaks(text string) bool {
	text = strings.ToLower(text)
	return strings.Contains(text, password) || strings.Contains(text, "hunter2") ||
		strings.Contains(text, fmt.Sprintf("%x", password))
}

func TestNoProblemNamesASecret(t *testing.T) {
	dir := configtest.Keys(t)
	files := 0
	for _, o := range oddKafka(t) {
		entries := configtest.Read(o.In(dir))
		for _, e := range entries {
			if strings.Contains(e.Value, password) {
				files++
				break
			}
		}
		_, problems := config.ParseKafka(entries)
		for _, p := range problems {
			if leaks(fmt.Sprintf("%+v %s", p, p)) {
				t.Errorf("%s: %s", o.Name, p)
			}
		}
	}
	if files < 7 {
		t.Errorf("only %d files hold the password", files)
	}
}

// A password in a wrong option stays hidden if the option's name looks like a password's.
func TestMisspeltSecretsAreHidden(t *testing.T) {
	for _, name := range []string{
		"sasl_pasword", "SASL.PASSWORD", "passwort", "password", "sasl_kennwort", "ssl.key.password", "ssl_key_pem",
		"sasl_oauthbearer_client_secret", "token", "sslpasswrod", "sal_passwrd", "pw",
	} {
		_, problems := config.ParseKafka(configtest.Read("[a]\ntype = connection\n" + name + " = " + password + "\n"))
		if len(problems) != 1 || problems[0].Value != "***" || leaks(fmt.Sprintf("%+v", problems)) {
			t.Errorf("%s: %v", name, problems)
		}
	}
	_, problems := config.ParseKafka(configtest.Read("[a]\ntype = connection\nlinger = 7\n"))
	if len(problems) != 1 || problems[0].Value != "7" {
		t.Errorf("the value of a harmless option is hidden: %v", problems)
	}
}
