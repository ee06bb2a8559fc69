package event

import (
	"strings"
	"sync"
	"time"

	"reskafka/internal/config"
	"reskafka/internal/host"
	"reskafka/internal/record"
)

// cdrField is a field of a call record: its name in the tap, its name in the output, and whether it is sent.
type cdrField struct {
	name   string                 // name in modules/cdr_kafka.c: the member of struct ast_cdr
	out    string                 // name in the JSON object
	wanted func(*config.CDR) bool // nil = always
	last   bool                   // set after the system's names and the variables, not before
	key    bool                   // may be the message's key
}

// cdrFields is the contract of cdr_kafka (spec §6), in the order of the JSON object. The module on librdkafka
// sets the precedence: a variable replaces an earlier field of the same name, and uniqueid and userfield
// replace a variable. tenantid and peertenantid exist in some versions of Asterisk only. Fields outside this
// table are not sent.
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
	topic      Topic
	durability record.Durability
	keyPlace   int    // the key's row in cdrFields; -1 = no key
	wanted     []bool // for each row of cdrFields
	entityID   []byte
	systemName []byte // nil = none
	headers    *headers
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

// NewCDR returns the source described by c. Times are printed in the present zone of /etc/localtime: a change
// of the zone needs a reload.
func NewCDR(c *config.CDR, system host.System) *CDR {
	s := &CDR{
		connection: c.Connection,
		topic:      Topic{c.Topic, c.TopicPartitions, c.TopicReplication},
		durability: record.DurabilityOf(c.Durability),
		keyPlace:   -1,
		entityID:   []byte(system.EntityID),
		headers:    newHeaders(system),
		wanted:     make([]bool, len(cdrFields)),
		zone:       localZone(localtimeFile),
	}
	if system.Name != "" {
		s.systemName = []byte(system.Name)
	}
	for i, f := range cdrFields {
		s.wanted[i] = f.wanted == nil || f.wanted(c)
		if f.key && strings.EqualFold(f.name, c.Key) {
			s.keyPlace = i
		}
	}
	return s
}

// Connection implements Source.
func (s *CDR) Connection() string { return s.connection }

// Topic implements Source.
func (s *CDR) Topic() Topic { return s.topic }

// Durability implements Source.
func (s *CDR) Durability() record.Durability { return s.durability }

// Encode implements Source; it never fails. The key has the field's bytes unchanged: empty for an empty
// field, none for a field unknown to this Asterisk.
func (s *CDR) Encode(fields []Field, now time.Time) (Message, error) {
	w := cdrWorks.Get().(*cdrWork)
	defer w.putBack()
	w.arrive(fields)
	o := &w.object
	s.setFields(w, false)
	w.set(Field{Name: "EntityID", Text: s.entityID})
	if s.systemName != nil {
		w.set(Field{Name: "SystemName", Text: s.systemName})
	}
	for i := range fields {
		if fields[i].Kind == Variable {
			o.set(fields[i])
			w.variables = true
		}
	}
	s.setFields(w, true)

	var key []byte
	if s.keyPlace >= 0 && w.arrived[s.keyPlace] != nil {
		key = w.arrived[s.keyPlace].Text
	}
	m := Message{Topic: s.topic.Name, Headers: s.headers.at(now)}
	m.Value, m.Key = o.bytes(key, s.zone)
	return m, nil
}

// setFields sets the record's own fields that have arrived: the fields with last, or all others.
func (s *CDR) setFields(w *cdrWork, last bool) {
	for i, f := range w.arrived {
		if f != nil && s.wanted[i] && cdrFields[i].last == last {
			member := *f
			member.Name = cdrFields[i].out
			w.set(member)
		}
	}
}

// cdrWork is reusable memory for encoding a record, so a record costs only the memory of its message.
type cdrWork struct {
	object    object
	arrived   []*Field // for each row of cdrFields
	variables bool     // there are variables, so a name may be set already
}

var cdrWorks = sync.Pool{New: func() any { return &cdrWork{arrived: make([]*Field, len(cdrFields))} }}

// arrive finds the rows of the fields. A tap's order of fields is mostly the table's, so the next row is
// checked first.
func (w *cdrWork) arrive(fields []Field) {
	next := 0
	for i := range fields {
		f := &fields[i]
		if f.Kind == Variable {
			continue
		}
		place, ok := next, next < len(cdrFields) && cdrFields[next].name == f.Name
		if !ok {
			place, ok = cdrPlaces[f.Name]
		}
		if ok {
			w.arrived[place] = f
			next = place + 1
		}
	}
}

// set sets a member of the object. Only a variable may repeat another member's name: names of the table
// differ.
func (w *cdrWork) set(f Field) {
	if w.variables {
		w.object.set(f)
		return
	}
	w.object.members = append(w.object.members, f)
}

// keptMembers is the largest object whose memory is reused, in members.
const keptMembers = 64

// putBack lets go of the record, which is the caller's.
func (w *cdrWork) putBack() {
	if cap(w.object.members) > keptMembers {
		return
	}
	clear(w.object.members)
	clear(w.arrived)
	*w = cdrWork{object: object{members: w.object.members[:0]}, arrived: w.arrived}
	cdrWorks.Put(w)
}
