package boundary_test

import (
	"regexp"
	"testing"

	"reskafka/internal/boundary"
)

// Both sides are generated from the table: its numbers and names are unique and valid in C and Go.
func TestTable_NamesAndNumbers(t *testing.T) {
	name := regexp.MustCompile(`^[a-z]+(_[a-z]+)*$`)
	kinds, names := map[boundary.Kind]bool{}, map[string]bool{}
	var check func(where string, fields []boundary.Field)
	check = func(where string, fields []boundary.Field) {
		seen := map[string]bool{}
		for _, f := range fields {
			if !name.MatchString(f.Name) || seen[f.Name] {
				t.Errorf("%s: field %q", where, f.Name)
			}
			seen[f.Name] = true
			if (f.Type == boundary.List) != (f.Of != nil) || f.Enum != nil && f.Type != boundary.Int32 {
				t.Errorf("%s: field %s has the wrong type", where, f.Name)
			}
			if f.Of != nil {
				check(f.Of.Name, f.Of.Fields)
				if len(f.Of.Fields) == 0 {
					t.Errorf("%s: elements of %s have no fields, so their number is not bounded", where, f.Name)
				}
			}
		}
	}
	for _, m := range boundary.Messages {
		if m.Kind == 0 || kinds[m.Kind] || names[m.Name] || !name.MatchString(m.Name) || m.Meaning == "" {
			t.Errorf("%d %q", m.Kind, m.Name)
		}
		kinds[m.Kind], names[m.Name] = true, true
		if m.OneWay && len(m.Answer) > 0 {
			t.Errorf("%s is one-way and has an answer", m.Name)
		}
		check(m.Name, m.Request)
		check(m.Name, m.Answer)
	}
}
