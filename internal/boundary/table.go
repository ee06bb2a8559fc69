package boundary

import "slices"

// ABIVersion numbers the table of messages and the layout of the shared memory. A change of either raises it: the
// module refuses an engine of another number, and the engine such a module.
const ABIVersion = 17

// Type is the Go type of a field. On the wire there are numbers, texts and lists only.
type Type int

// The types. A Text for "none" on the wire decodes as "". Bytes distinguish none (nil) from empty.
const (
	Uint64 Type = iota
	Uint32
	Int64
	Int32
	Bool
	Text
	Bytes
	Texts // a list of texts
	List  // a list of records
)

// Field is a field of a message or of a list's elements.
type Field struct {
	Name    string
	Type    Type
	Meaning string
	Of      *Record // the elements of a List
	Enum    *Enum   // the values of an Int32 with names
}

// Record is the element of a list.
type Record struct {
	Name    string // of the Go type
	Meaning string
	Fields  []Field
}

// Enum is a number with named values, in C and in Go.
type Enum struct {
	Name    string // of the Go type
	CName   string // of the C enum
	CPrefix string
	Meaning string
	Values  []EnumValue
}

// EnumValue is a value of an Enum. Name is the C name without its prefix.
type EnumValue struct {
	Name    string
	Value   int32
	Meaning string
}

// Message is a row of the table.
type Message struct {
	Kind    Kind
	Name    string
	From    Side // who sends the request
	OneWay  bool // there is no answer
	Bulk    bool // the answer may be as long as MessagesMax
	Meaning string
	Request []Field
	Answer  []Field
}

var resultEnum = &Enum{"Result", "resk_result", "RESK_", "Result is the outcome of a request.", []EnumValue{
	{"OK", 0, "done"},
	{"EINVAL", -1, "refused; the log has the reason"},
	{"ENOENT", -2, "no such connection, source, subscription or command"},
	{"EDISABLED", -3, "kafka.conf has [general] enabled = no"},
	{"ESTATE", -4, "there is no engine, or it is stopping"},
	{"PANIC", -5, "the engine failed; the log has the stack"},
}}

var levelEnum = &Enum{"Level", "resk_log_level", "RESK_LOG_", "Level is the severity of a log line.", []EnumValue{
	{"DEBUG", 0, ""},
	{"NOTICE", 1, ""},
	{"WARNING", 2, ""},
	{"ERROR", 3, ""},
}}

var refusalEnum = &Enum{"Refusal", "resk_refusal", "RESK_REFUSED_",
	"Refusal is the reason of a refused call to produce. The first five are those of enum stage_result.", []EnumValue{
		{"CLOSED", 1, "the gate is shut"},
		{"TOO_LONG", 2, "longer than message_max_bytes"},
		{"FULL_FRAMES", 3, "queue_buffering_max_messages are queued"},
		{"FULL_CHARGE", 4, "queue_buffering_max_kbytes are queued"},
		{"NO_MEMORY", 5, "no memory is left"},
		{"TOPIC", 6, "the topic is NULL, empty, too long, or has a byte that Kafka does not allow"},
		{"ARGUMENT", 7, "NULL where a value is needed"},
	}}

var entryRecord = &Record{"Entry", "Entry is one line of a configuration file, templates and includes applied.", []Field{
	{Name: "file", Type: Text, Meaning: "none = the file itself, as opposed to an included file"},
	{Name: "line", Type: Int32, Meaning: "0 = not known"},
	{Name: "section", Type: Text},
	{Name: "name", Type: Text, Meaning: "none = the section begins; comes also for a section without lines"},
	{Name: "value", Type: Text},
	{Name: "inherited", Type: Bool, Meaning: "the line comes from a template"},
}}

var connectionRecord = &Record{"Connection", "Connection is one section of kafka.conf, with what the module answers itself.", []Field{
	{Name: "name", Type: Text},
	{Name: "no_producer", Type: Text, Meaning: "why there is no producer; empty = there is one"},
	{Name: "no_consumer", Type: Text, Meaning: "why there is no consumer; empty = there is one"},
	{Name: "request_timeout_ms", Type: Uint32, Meaning: "limit of its brokers' answers"},
	{Name: "messages_max", Type: Uint64, Meaning: "most bytes of an answer to next"},
	{Name: "max_frames", Type: Uint64, Meaning: "this and the following: limits of a new gate, see struct resk_gate"},
	{Name: "max_charge", Type: Uint64},
	{Name: "max_length", Type: Uint64},
	{Name: "linger_ns", Type: Uint64},
	{Name: "max_weight", Type: Uint64},
	{Name: "shared", Type: Uint64},
	{Name: "memory", Type: Uint64},
}}

var commandRecord = &Record{"Command", "Command is one command of the CLI. Its place in the list is its index.", []Field{
	{Name: "words", Type: Text, Meaning: "may hold the alternatives and <placeholders> of Asterisk's CLI"},
	{Name: "summary", Type: Text},
	{Name: "usage", Type: Text},
	{Name: "waits", Type: Bool, Meaning: "for a broker or for the disk; otherwise the engine answers from its memory"},
}}

var headerRecord = &Record{"Header", "Header is one header of a message.", []Field{
	{Name: "name", Type: Text},
	{Name: "value", Type: Bytes, Meaning: "none = null"},
}}

var messageRecord = &Record{"Received", "Received is a message for a consumer.", []Field{
	{Name: "topic", Type: Text, Meaning: "none = the topic of the message before"},
	{Name: "partition", Type: Int32},
	{Name: "offset", Type: Int64},
	{Name: "timestamp_ms", Type: Int64, Meaning: "milliseconds since 1970, -1 = none"},
	{Name: "key", Type: Bytes, Meaning: "none = no key"},
	{Name: "value", Type: Bytes, Meaning: "none = null"},
	{Name: "headers", Type: List, Of: headerRecord},
}}

var positionRecord = &Record{"Position", "Position is how far a subscription's callbacks have come in a partition.", []Field{
	{Name: "topic", Type: Text},
	{Name: "partition", Type: Int32},
	{Name: "next", Type: Int64, Meaning: "the offset behind the last delivered message"},
}}

var reportRecord = &Record{"Report", "Report is the outcome of one record whose frame asked for it.", []Field{
	{Name: "opaque", Type: Uint64, Meaning: "as the frame has it"},
	{Name: "topic", Type: Text},
	{Name: "partition", Type: Int32, Meaning: "-1 = not known"},
	{Name: "offset", Type: Int64, Meaning: "-1 = not known"},
	{Name: "error", Type: Bytes, Meaning: "none = acknowledged; else why the record was dropped"},
}}

var result = Field{Name: "result", Type: Int32, Enum: resultEnum}

// id returns the field of a number chosen by the module and stable across an engine's restart.
func id(of string) Field {
	return Field{Name: "id", Type: Uint64, Meaning: "the " + of + "'s number"}
}

// Messages is the table. Both C and Go are generated from it.
//
// The first two fields of the request hello, and the first three of its answer, are the same in every
// version, so versions can refuse each other.
var Messages = []Message{
	{Kind: 1, Name: "hello", From: ModuleSide, Meaning: "begins a connection: the first request, sent once",
		Request: []Field{
			{Name: "abi", Type: Uint64, Meaning: "RESK_ABI_VERSION of the module"},
			{Name: "build", Type: Text, Meaning: "the source of the module's build"},
			{Name: "entity_id", Type: Text, Meaning: "Asterisk's EID as text"},
			{Name: "system_name", Type: Text, Meaning: "systemname of asterisk.conf, may be empty"},
			{Name: "version", Type: Text, Meaning: "Asterisk's version"},
			{Name: "hostname", Type: Text},
			{Name: "spool_dir", Type: Text, Meaning: "astspooldir of asterisk.conf"},
			{Name: "log_dir", Type: Text, Meaning: "astlogdir of asterisk.conf"},
			{Name: "stage_folder", Type: Text, Meaning: "as the previous engine answered; empty = there was none"},
		},
		Answer: []Field{
			result,
			{Name: "abi", Type: Uint64, Meaning: "RESK_ABI_VERSION of the engine"},
			{Name: "build", Type: Text, Meaning: "the source of the engine's build"},
			{Name: "stage_folder", Type: Text, Meaning: "for slabs in files; empty = there is none"},
			{Name: "stage_bytes", Type: Uint64, Meaning: "most bytes of slabs in files, 0 = no limit"},
			{Name: "commands", Type: List, Of: commandRecord},
		}},
	{Kind: 2, Name: "configure", From: ModuleSide,
		Meaning: "puts a kafka.conf in force, or refuses the file and keeps the previous one",
		Request: []Field{{Name: "entries", Type: List, Of: entryRecord}},
		Answer: []Field{result,
			{Name: "otherwise", Type: Text, Meaning: "why an unlisted connection has neither producer nor consumer"},
			{Name: "connections", Type: List, Of: connectionRecord, Meaning: "the connections in force, and the ones left out"},
		}},
	{Kind: 3, Name: "producer_open", From: ModuleSide, Meaning: "binds a gate to a connection and opens the gate",
		Request: []Field{{Name: "name", Type: Text, Meaning: "of the connection"}, id("gate")},
		Answer:  []Field{result}},
	{Kind: 4, Name: "source_open", From: ModuleSide, Meaning: "reads the configuration of an event source",
		Request: []Field{
			{Name: "kind", Type: Text, Meaning: "cdr"},
			{Name: "source", Type: Uint64, Meaning: "the source's number, 0 = a new one"},
			{Name: "entries", Type: List, Of: entryRecord},
		},
		Answer: []Field{
			result,
			{Name: "source", Type: Uint64, Meaning: "the source's number, from 1"},
			{Name: "connection", Type: Text, Meaning: "the source's connection"},
		}},
	{Kind: 6, Name: "subscribe", From: ModuleSide, Meaning: "makes a connection a member of its group",
		Request: []Field{
			{Name: "name", Type: Text, Meaning: "of the connection"},
			{Name: "topics", Type: Text, Meaning: "separated by commas"},
			id("delivery"),
			{Name: "member", Type: Text, Meaning: "which the engine before was in the group and had no time to leave; empty = none"},
			{Name: "pauses", Type: Text, Meaning: "a line for each pause, oldest first: + or - as pause is on or off, and its topics"},
			{Name: "positions", Type: List, Of: positionRecord, Meaning: "after earlier engines; the offsets may not be committed"},
		},
		Answer: []Field{result}},
	{Kind: 7, Name: "next", From: ModuleSide, Bulk: true,
		Meaning: "returns the next messages of a subscription; blocks until there is one; a second request replaces the first",
		Request: []Field{id("delivery"), {Name: "most", Type: Uint64, Meaning: "the answer's limit, bytes: messages_max of the connection"}},
		Answer: []Field{
			{Name: "again", Type: Bool, Meaning: "the next message is longer than most, and messages_max has changed since"},
			{Name: "area", Type: Uint32, Meaning: "number of the control memory's area with the messages, from 1 on; 0 = the messages follow here"},
			{Name: "length", Type: Uint32, Meaning: "of the list messages in the area, bytes"},
			{Name: "messages", Type: List, Of: messageRecord, Meaning: "in order; no messages, no area and not again = the subscription has ended"},
		}},
	{Kind: 8, Name: "unsubscribe", From: ModuleSide,
		Meaning: "ends a subscription: commits, leaves the group; blocks for a second at most",
		Request: []Field{id("delivery")}},
	{Kind: 9, Name: "subscription_free", From: ModuleSide, Meaning: "ends and forgets a subscription",
		Request: []Field{id("delivery")}},
	{Kind: 10, Name: "commit", From: ModuleSide,
		Meaning: "commits the delivered messages; blocks for request_timeout_ms at most",
		Request: []Field{
			id("delivery"),
			{Name: "current", Type: Bool, Meaning: "the message in the callback counts as delivered"},
		},
		Answer: []Field{result}},
	{Kind: 11, Name: "pause", From: ModuleSide, Meaning: "pauses or resumes topics of a subscription",
		Request: []Field{
			id("delivery"),
			{Name: "topics", Type: Text, Meaning: "separated by commas; none = all"},
			{Name: "on", Type: Bool, Meaning: "pause; else resume"},
		},
		Answer: []Field{result}},
	{Kind: 12, Name: "reports_open", From: ModuleSide, Meaning: "makes a queue of delivery reports",
		Request: []Field{id("queue")}, Answer: []Field{result}},
	{Kind: 13, Name: "reports_next", From: ModuleSide,
		Meaning: "returns the next reports of a queue; blocks until there are some",
		Request: []Field{id("queue"), {Name: "again", Type: Bool, Meaning: "the previous answer was lost: its reports come again"}},
		Answer:  []Field{{Name: "reports", Type: List, Of: reportRecord, Meaning: "no reports = the queue has ended"}}},
	{Kind: 14, Name: "reports_close", From: ModuleSide, Meaning: "forgets a queue and its reports",
		Request: []Field{id("queue")}},
	{Kind: 15, Name: "ensure_topic", From: ModuleSide,
		Meaning: "creates a missing topic; with wait: blocks for request_timeout_ms plus 2 s at most",
		Request: []Field{
			{Name: "name", Type: Text, Meaning: "of the connection"},
			{Name: "topic", Type: Text},
			{Name: "partitions", Type: Int32, Meaning: "0 or less = the broker's default"},
			{Name: "replication", Type: Int32, Meaning: "0 or less = the broker's default"},
			{Name: "wait", Type: Bool, Meaning: "answer when the outcome is known, else at once"},
		},
		Answer: []Field{result}},
	{Kind: 16, Name: "run", From: ModuleSide, Meaning: "runs a command of the CLI; blocks as long as the command does",
		Request: []Field{
			{Name: "index", Type: Uint32, Meaning: "of the command in hello"},
			{Name: "words", Type: Texts},
		},
		Answer: []Field{{Name: "printed", Type: Bytes, Meaning: "none = show the usage"}}},
	{Kind: 17, Name: "complete", From: ModuleSide, Meaning: "completes a word of a command line",
		Request: []Field{
			{Name: "index", Type: Uint32, Meaning: "of the command in hello"},
			{Name: "words", Type: Texts, Meaning: "the complete words before it"},
			{Name: "word", Type: Text},
		},
		Answer: []Field{{Name: "candidates", Type: Texts}}},
	{Kind: 18, Name: "refused", From: ModuleSide, OneWay: true, Meaning: "counts and logs refused calls to produce",
		Request: []Field{
			{Name: "id", Type: Uint64, Meaning: "the gate's number, 0 = there was no connection"},
			{Name: "reason", Type: Int32, Enum: refusalEnum},
			{Name: "count", Type: Uint64, Meaning: "calls"},
			{Name: "sample", Type: Text, Meaning: "the topic of the first one, may be none"},
		}},
	{Kind: 19, Name: "stop", From: ModuleSide,
		Meaning: "delivers waiting records, closes all clients, and answers; blocks for grace_ms and the closing",
		Request: []Field{{Name: "grace_ms", Type: Uint32, Meaning: "milliseconds"}}},
	{Kind: 20, Name: "fault", From: ModuleSide, Meaning: "makes the engine fail, for tests",
		Request: []Field{{Name: "how", Type: Text, Meaning: "panic, crash, exit, hang, memory"}},
		Answer:  []Field{result}},
	{Kind: 21, Name: "ping", From: ModuleSide, Meaning: "is answered after the engine has taken the ring's contents"},
	{Kind: 22, Name: "end_member", From: ModuleSide,
		Meaning: "ends the membership of a dead engine, for a subscription that ended without an engine: commits, leaves the group",
		Request: []Field{
			{Name: "name", Type: Text, Meaning: "of the connection"},
			{Name: "member", Type: Text, Meaning: "empty = none"},
			{Name: "positions", Type: List, Of: positionRecord},
		}},
	{Kind: 64, Name: "log", From: EngineSide, OneWay: true, Meaning: "writes one line to Asterisk's log",
		Request: []Field{
			{Name: "level", Type: Int32, Enum: levelEnum},
			{Name: "file", Type: Text, Meaning: "of the engine's source"},
			{Name: "line", Type: Int32, Meaning: "of that file"},
			{Name: "function", Type: Text},
			{Name: "text", Type: Text, Meaning: "without a newline at its end"},
		}},
	{Kind: 65, Name: "member", From: EngineSide, OneWay: true, Meaning: "reports the member id of a subscription in its group",
		Request: []Field{id("delivery"), {Name: "member", Type: Text, Meaning: "given by the broker"}}},
}

// byKind finds a message of the table.
var byKind = func() map[Kind]*Message {
	m := map[Kind]*Message{}
	for i := range Messages {
		m[Messages[i].Kind] = &Messages[i]
	}
	return m
}()

// Enums returns the enums of all fields, each once.
func Enums() []*Enum {
	var list []*Enum
	eachField(func(f *Field) {
		if f.Enum != nil && !slices.Contains(list, f.Enum) {
			list = append(list, f.Enum)
		}
	})
	return list
}

// Records returns the elements of all lists, each once.
func Records() []*Record {
	var list []*Record
	eachField(func(f *Field) {
		if f.Of != nil && !slices.Contains(list, f.Of) {
			list = append(list, f.Of)
		}
	})
	return list
}

// eachField visits every field of every message and list.
func eachField(visit func(*Field)) {
	var walk func([]Field)
	walk = func(fields []Field) {
		for i := range fields {
			if fields[i].Of != nil {
				walk(fields[i].Of.Fields)
			}
			visit(&fields[i])
		}
	}
	for i := range Messages {
		walk(Messages[i].Request)
		walk(Messages[i].Answer)
	}
}

// Least returns the lower limit of the fields' bytes.
func Least(fields []Field) int {
	least := 0
	for i := range fields {
		switch fields[i].Type {
		case Text, Bytes, Texts, List:
			least += 4
		default:
			least += 8
		}
	}
	return least
}
