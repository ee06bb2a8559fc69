package consume

import (
	"regexp"
	"strings"
	"testing"
)

// FuzzSubscription subscribes to arbitrary topics. Accepted topics are regular expressions valid for the
// client, or the unchanged names.
func FuzzSubscription(f *testing.F) {
	for _, topics := range []string{"a", "a\nb.c", "^a.*\nb+c", "^(", "^\\p{L}+$", "^a{2,1}", "\xff\n^\xff", "^(?i)a"} {
		f.Add(topics)
	}
	f.Fuzz(func(t *testing.T, list string) {
		topics := strings.Split(list, "\n")
		names, patterns, err := subscription(topics)
		if err != nil {
			return
		}
		if len(names) != len(topics) {
			t.Fatalf("%q became %q", topics, names)
		}
		for i, name := range names {
			if !patterns && name != topics[i] {
				t.Errorf("%q became %q", topics[i], name)
			}
			if !patterns {
				continue
			}
			pattern, err := regexp.Compile(name)
			if err != nil {
				t.Errorf("%q became %q: %v", topics[i], name, err)
			} else if !strings.HasPrefix(topics[i], "^") && !pattern.MatchString(topics[i]) {
				t.Errorf("%q became %q, which it does not match", topics[i], name)
			}
		}
	})
}
