package main

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"reskafka/internal/config"
)

// A row of the reference's table of options: name, librdkafka's property, default.
var referenceOption = regexp.MustCompile(`(?m)^\t\{ "(\w+)", "([\w.]*)", "([^"]*)", `)

// Both modules run with the same kafka.conf, so their defaults must be equal.
func TestReferenceHasTheSameDefaults(t *testing.T) {
	source, err := os.ReadFile("reference/res_kafka/config.c")
	if err != nil {
		t.Fatal(err)
	}
	rows := map[string][]string{}
	for _, row := range referenceOption.FindAllStringSubmatch(string(source), -1) {
		rows[row[1]] = row
	}
	for _, section := range config.KafkaFile.Sections {
		if !section.Typed {
			continue
		}
		for _, option := range section.Options {
			row := rows[option.Name]
			switch {
			case row == nil && !strings.HasPrefix(option.Name, "ssl_"):
				t.Errorf("the reference does not know %s; what is not librdkafka's has to be in its table as ignored", option.Name)
			case row != nil && row[2] != "" && row[3] != option.Default:
				t.Errorf("%s is %q by default, %q in the reference", option.Name, option.Default, row[3])
			}
			delete(rows, option.Name)
		}
	}
	for name := range rows {
		t.Errorf("the reference has %s, which is no option of a connection", name)
	}
}
