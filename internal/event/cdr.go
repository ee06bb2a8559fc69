package event

import (
	"bytes"
	"strings"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/outbox"
)

// cdrField is one field of a call record: how the tap calls it, how it goes out, and whether it does.
type cdrField struct {
	name   string                 // as modules/cdr_kafka.c lists it: the member of struct ast_cdr
	out    string                 // its name in the JSON object
	wanted func(*config.CDR) bool // nil = always
	last   bool                   // set after the variables and the system's names, not before them
	key    bool                   // may be the message's key
}

// cdrFields is the contract of cdr_kafka (spec §6), in the order of the JSON object. tenantid and peertenantid arrive
// only from an Asterisk that has them. A field that is not in this table does not go out.
var cdrFields = []cdrField{
	{name: "clid", out: "clid"},
	{name: "src", out: "src", key: true},
	{name: "dst", out: "dst", key: true},
	{name: "dcontext", out: "dcontext", key: true},
	{name: "channel", out: "channel", key: true},
	{name: "dstchannel", out: "dstchannel", key: true},
	{name: "lastapp", out: "lastapp"},
	{name: "lastdata", out: "lastdata"},
	{name: "start", out: "start"},
	{name: "answer", out: "answer"},
	{name: "end", out: "end"},
	{name: "duration", out: "durationsec"},
	{name: "billsec", out: "billsec"},
	{name: "disposition", out: "disposition"},
	{name: "accountcode", out: "accountcode", key: true},
	{name: "amaflags", out: "amaflags"},
	{name: "peeraccount", out: "peeraccount"},
	{name: "linkedid", out: "linkedid", key: true},
	{name: "sequence", out: "sequence"},
	{name: "tenantid", out: "tenantid", key: true},
	{name: "peertenantid", out: "peertenantid", key: true},
	{name: "uniqueid", out: "uniqueid", key: true, last: true, wanted: func(c *config.CDR) bool { return c.LogUniqueID }},
	{name: "userfield", out: "userfield", last: true, wanted: func(c *config.CDR) bool { return c.LogUserField }},
}

// cdrPlaces finds a field's row in cdrFields.
var cdrPlaces = func() map[string]int {
	places := make(map[string]int, len(cdrFields))
	for i, f := range cdrFields {
		places[f.name] = i
	}
	return places
}()

// CDR is the source of call detail records, configured by cdr_kafka.conf.
type CDR struct {
	connection string
	topic      string
	durability outbox.Durability
	key        string // name of the key field as the tap calls it; empty = no key
	wanted     []bool // for each row of cdrFields
	system     host.System
	headers    headers
	zone       *time.Location
}

// openCDR is Type.Open of call records.
func openCDR(entries []config.Entry, system host.System) (Source, []config.Problem) {
	c, problems := config.ParseCDR(entries)
	if c == nil || config.HasErrors(problems) {
		return nil, problems
	}
	return NewCDR(c, system), problems
}

// NewCDR makes the source that c describes. Times are printed in the zone of /etc/localtime as it is now: a changed
// zone takes a reload.
func NewCDR(c *config.CDR, system host.System) *CDR {
	s := &CDR{
		connection: c.Connection,
		topic:      c.Topic,
		durability: outbox.DurabilityOf(c.Durability),
		system:     system,
		headers:    newHeaders(system),
		wanted:     make([]bool, len(cdrFields)),
		zone:       localZone(localtimeFile),
	}
	for i, f := range cdrFields {
		s.wanted[i] = f.wanted == nil || f.wanted(c)
		if f.key && strings.EqualFold(f.name, c.Key) {
			s.key = f.name
		}
	}
	return s
}

// Connection implements Source.
func (s *CDR) Connection() string { return s.connection }

// Durability implements Source.
func (s *CDR) Durability() outbox.Durability { return s.durability }

// Encode implements Source; it never fails. The key is the field's bytes unchanged: empty when the field is, none
// when this Asterisk does not have the field.
func (s *CDR) Encode(fields []Field, now time.Time) (Message, error) {
	arrived := make([]*Field, len(cdrFields))
	for i := range fields {
		if f := &fields[i]; f.Kind != Variable {
			if place, ok := cdrPlaces[f.Name]; ok {
				arrived[place] = f
			}
		}
	}
	o := object{members: make([]Field, 0, len(fields)+2)}
	s.setFields(&o, arrived, false)
	for i := range fields {
		if fields[i].Kind == Variable {
			o.set(fields[i])
		}
	}
	o.set(Field{Name: "EntityID", Text: []byte(s.system.EntityID)})
	if s.system.Name != "" {
		o.set(Field{Name: "SystemName", Text: []byte(s.system.Name)})
	}
	s.setFields(&o, arrived, true)

	m := Message{Topic: s.topic, Headers: s.headers.at(now, 0)}
	m.Value = o.append(make([]byte, 0, o.size()), s.zone)
	if place, ok := cdrPlaces[s.key]; ok && arrived[place] != nil {
		m.Key = bytes.Clone(arrived[place].Text)
	}
	return m, nil
}

// setFields sets what has arrived of the record's own fields: those that come last, or the others.
func (s *CDR) setFields(o *object, arrived []*Field, last bool) {
	for i, f := range arrived {
		if f != nil && s.wanted[i] && cdrFields[i].last == last {
			member := *f
			member.Name = cdrFields[i].out
			o.set(member)
		}
	}
}
