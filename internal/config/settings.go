package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
)

// Setting is a line of `kafka show connection`.
type Setting struct {
	Label, Value string
}

// Settings returns every option of the connection in display form: durations with their unit, bools as yes or
// no, lists joined by commas, secrets as ***, unset options as "".
func (c *Connection) Settings() []Setting {
	out := []Setting{{"Name", c.Name}}
	add := func(o *Option[Connection]) { out = append(out, Setting{o.Label, o.render(c)}) }
	for _, name := range connectionTable.front {
		add(connectionTable.option(name))
	}
	placed := slices.Concat(connectionTable.front, connectionTable.back)
	for i := range connectionTable.Options {
		if o := &connectionTable.Options[i]; !slices.Contains(placed, o.Name) {
			add(o)
		}
	}
	for _, name := range connectionTable.back {
		add(connectionTable.option(name))
	}
	return out
}

// Format implements fmt.Formatter: the settings, for any verb. Without it, a wrong verb would make fmt print
// the fields of a nested connection, including a secret.
func (c Connection) Format(f fmt.State, _ rune) {
	for i, s := range c.Settings() {
		if i > 0 {
			_, _ = io.WriteString(f, ", ")
		}
		_, _ = io.WriteString(f, s.Label+": "+s.Value)
	}
}

// BrokersText returns the bootstrap list as written by the administrator, without blanks.
func (c *Connection) BrokersText() string {
	return brokerField{&c.Brokers, &c.brokersText}.String()
}

// Changed returns the options with other values in next, and options whose files had another content at their
// check: a certificate is renewed under its old name. An empty result means that a reload need not change the
// connection, at any new place in the file.
func (c *Connection) Changed(next *Connection) []*Info {
	var out []*Info
	for i := range connectionTable.Options {
		o := &connectionTable.Options[i]
		before, after := o.field(c), o.field(next)
		if b, ok := before.(brokerField); ok {
			before, after = b.addresses, after.(brokerField).addresses
		}
		if !reflect.DeepEqual(before, after) || c.contents[o.Name] != next.contents[o.Name] {
			out = append(out, &o.Info)
		}
	}
	return out
}
