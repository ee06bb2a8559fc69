package config

// File describes a configuration file, for the generated documents. A further file is a further table and a
// further File in Files.
type File struct {
	Name     string // kafka.conf
	Module   string // res_kafka
	Title    string
	Intro    []string // paragraphs: purpose and use of the file
	Sections []Section
	Examples []Example
}

// Section is a kind of section of a File.
type Section struct {
	Name    string // of the section; with Typed, the value of its option "type"
	Typed   bool   // the administrator names the section, and the section has type = Name
	Example string // a name for the section, where Typed
	Short   string
	Long    string
	Options []*Info // where Typed, with "type" first
}

// Example is a part of a file worth copying.
type Example struct {
	Title string
	Lines []string
}

// Files returns all configuration files.
func Files() []*File {
	return []*File{&KafkaFile, &CDRFile}
}

// KafkaFile is kafka.conf.
var KafkaFile = File{
	Name:   "kafka.conf",
	Module: "res_kafka",
	Title:  "Connections to Kafka",
	Intro: []string{
		"res_kafka offers other modules of Asterisk producers and consumers on named connections. Every section but" +
			" [general] is one connection.",
		"After a change: module reload res_kafka.so. Connections whose options did not change are not touched." +
			" Templates, #include and #exec work as in Asterisk's other files.",
		"Each mistake is logged with its line and the correction. A number out of range, an odd boolean or one bad" +
			" broker of several is a warning that names the value used instead. Any other mistake is an error of its" +
			" connection: at start that connection is left out and the others serve. Without a usable connection the" +
			" module does not load. At a reload an error changes nothing.",
		"If passwords are in this file, only the user of Asterisk should be able to read it.",
	},
	Sections: []Section{generalTable.section(), connectionTable.section()},
	Examples: []Example{{
		Title: "User name and password over TLS, brokers certified by an authority the system trusts",
		Lines: []string{
			"[secure-kafka]",
			"type = connection",
			"brokers = kafka1.example.com:9093,kafka2.example.com:9093",
			"security_protocol = sasl_ssl",
			"sasl_mechanisms = SCRAM-SHA-512",
			"sasl_username = asterisk",
			"sasl_password = change-me",
		},
	}, {
		Title: "Azure Event Hubs, whose password is a connection string; each semicolon in it needs a backslash, because" +
			" Asterisk takes a bare one for the start of a comment",
		Lines: []string{
			"[event-hubs]",
			"type = connection",
			"brokers = NAMESPACE.servicebus.windows.net:9093",
			"security_protocol = sasl_ssl",
			"sasl_mechanisms = PLAIN",
			"sasl_username = $ConnectionString",
			`sasl_password = Endpoint=sb://NAMESPACE.servicebus.windows.net/\;SharedAccessKeyName=NAME\;SharedAccessKey=KEY`,
		},
	}, {
		Title: "Two connections to one cluster that share a template",
		Lines: []string{
			"[cluster](!)",
			"type = connection",
			"brokers = kafka1:9092,kafka2:9092,kafka3:9092",
			"compression_codec = zstd",
			"",
			"[call-records](cluster)",
			"enable_idempotence = yes",
			"",
			"[call-events](cluster)",
			"linger_ms = 50",
		},
	}},
}

// CDRFile is cdr_kafka.conf.
var CDRFile = File{
	Name:   "cdr_kafka.conf",
	Module: "cdr_kafka",
	Title:  "Call detail records to Kafka",
	Intro: []string{
		"cdr_kafka publishes every call detail record as one JSON message. The connection is one of kafka.conf.",
		"After a change: module reload cdr_kafka.so. An unknown key, a word that is neither yes nor no, and a section other than" +
			" [global] are logged and ignored. Any other mistake is an error: at start the module does not load, at a" +
			" reload nothing changes.",
	},
	Sections: []Section{cdrTable.section()},
}

// section describes the table's sections.
func (t *Table[T]) section() Section {
	s := Section{Name: t.Section, Short: t.Short, Long: t.Long}
	if t.Type != "" {
		s.Name, s.Typed, s.Example = t.Type, true, t.Example
		s.Options = append(s.Options, &Info{
			Name: "type", Kind: Enumeration, Words: []Word{{Text: t.Type}}, Required: true, Since: "1.0.0",
			Short: "What the section is", Example: t.Type, Long: "Every section but [general] carries it.",
		})
	}
	for i := range t.Options {
		s.Options = append(s.Options, &t.Options[i].Info)
	}
	return s
}
