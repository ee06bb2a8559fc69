package config_test

import (
	"testing"

	"reskafka/internal/config"
)

func TestGoodCDR(t *testing.T) {
	for name, want := range map[string]config.CDR{
		"defaults": {Connection: "my-kafka", Topic: "asterisk_cdr", Durability: "disk"},
		"everything": {Connection: "my-kafka", Topic: "calls.v1", Key: "linkedid", LogUniqueID: true, LogUserField: true,
			Durability: "overflow"},
	} {
		got, problems := config.ParseCDR(read(t, "testdata/cdr/good/"+name+".conf", ""))
		if len(problems) > 0 {
			t.Errorf("%s: %v", name, problems)
		}
		if got == nil || *got != want {
			t.Errorf("%s: got %+v, want %+v", name, got, want)
		}
	}
}
