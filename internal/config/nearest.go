package config

import (
	"slices"
	"strings"
)

// nearest returns the option probably meant by name, or nil.
func nearest(name string, known []*Info) *Info {
	name = plain(name)
	var best *Info
	bestDistance := len(name) + 1
	for _, o := range known {
		for _, candidate := range append([]string{o.Name}, o.Also...) {
			candidate = plain(candidate)
			// One letter in three may be wrong; beyond that two names are unrelated.
			limit := max(1, min(len(name), len(candidate))/3)
			d := distance(name, candidate)
			if isPartOf(name, candidate) {
				d = limit
			}
			if d <= limit && d < bestDistance {
				best, bestDistance = o, d
			}
		}
	}
	return best
}

// named reports whether name is the option's, or another client's name of the option.
func (o *Info) named(name string) bool {
	same := func(candidate string) bool { return plain(candidate) == plain(name) }
	return same(o.Name) || slices.ContainsFunc(o.Also, same)
}

var spellings = strings.NewReplacer(".", "_", "-", "_", " ", "_")

// plain brings the spellings of different clients together: linger.ms, linger-ms, Linger_MS and linger.
func plain(name string) string {
	name = spellings.Replace(strings.ToLower(name))
	return strings.TrimSuffix(name, "_ms")
}

// isPartOf reports whether name is candidate without its first or last words, for example password and
// sasl_password.
func isPartOf(name, candidate string) bool {
	return strings.HasPrefix(candidate, name+"_") || strings.HasSuffix(candidate, "_"+name)
}

// distance returns the number of letters to insert, remove, replace or swap with their neighbour to turn a
// into b (optimal string alignment).
func distance(a, b string) int {
	before, previous, current := make([]int, len(b)+1), make([]int, len(b)+1), make([]int, len(b)+1)
	for j := range previous {
		previous[j] = j
	}
	for i := 1; i <= len(a); i++ {
		current[0] = i
		for j := 1; j <= len(b); j++ {
			cost := 1
			if a[i-1] == b[j-1] {
				cost = 0
			}
			current[j] = min(previous[j]+1, current[j-1]+1, previous[j-1]+cost)
			if i > 1 && j > 1 && a[i-1] == b[j-2] && a[i-2] == b[j-1] {
				current[j] = min(current[j], before[j-2]+1)
			}
		}
		before, previous, current = previous, current, before
	}
	return previous[len(b)]
}

// mayBeSecret reports whether the value of an unknown option may be a password, for example after a typing
// error.
func mayBeSecret(name string, near *Info) bool {
	if near != nil && near.Kind == SecretText {
		return true
	}
	name = plain(name)
	for _, part := range []string{"pass", "secret", "token", "credential", "jaas", "pem", "sasl", "psw", "pw"} {
		if strings.Contains(name, part) {
			return true
		}
	}
	return false
}
