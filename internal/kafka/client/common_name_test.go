package client

import "testing"

func TestCommonName(t *testing.T) {
	for _, test := range []struct {
		name, host string
		want       bool
	}{
		{"kafka.example", "kafka.example", true}, {"Kafka.Example", "kafka.example", true},
		{"*.example.net", "kafka.example.net", true}, {"*.example.net", "a.b.example.net", false},
		{"*.example.net", "example.net", false}, {"*.net", "example.net", false}, {"*", "kafka", false},
		{"", "", false}, {"kafka", "kafka1", false}, {"*.example.net", ".example.net", false},
	} {
		if got := matchesCommonName(test.name, test.host); got != test.want {
			t.Errorf("%q for %q: %v", test.name, test.host, got)
		}
	}
}
