package config

import (
	"fmt"
	"io"
	"reflect"
	"slices"
)

// Setting is one line of `kafka show connection`.
type Setting struct {
	Label, Value string
}

// Settings gives every option of the connection as it is shown: durations with their unit, truth as yes or no, lists
// joined by commas, secrets as ***, what is unset as nothing.
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

// Format implements fmt.Formatter: the settings, whatever the verb. Without it a verb that does not fit would have fmt
// print the fields of a nested connection as they are, a secret included.
func (c Connection) Format(f fmt.State, _ rune) {
	for i, s := range c.Settings() {
		if i > 0 {
			_, _ = io.WriteString(f, ", ")
		}
		_, _ = io.WriteString(f, s.Label+": "+s.Value)
	}
}

// BrokersText gives the bootstrap list as the administrator wrote it, without blanks.
func (c *Connection) BrokersText() string {
	return brokerField{&c.Brokers, &c.brokersText}.String()
}

// Changed gives the options whose values differ from those of next, and those whose files held something else when they
// were checked: a certificate is renewed under its old name. None means that a reload has nothing to do for the
// connection, wherever in the file it now stands.
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
