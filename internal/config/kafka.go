// Package config reads the configuration files of the project. A table for each section has the name, meaning
// and accepted values of every option, and all other uses derive from the table.
package config

import (
	"slices"
	"strings"
)

// ParseKafka reads kafka.conf from the lines of Asterisk's loader. It reports every problem, in the order of
// the file. The configuration has the usable connections; connections with errors are in LeftOut. A running
// caller should keep its previous configuration when HasErrors reports errors. ParseKafka reads the
// certificate files named by options and no other file. It is safe for concurrent use and does not keep the
// entries.
func ParseKafka(entries []Entry) (*Kafka, []Problem) {
	log := &problemLog{file: KafkaFile.Name}
	cfg := generalTable.filled()
	for _, s := range joinedSections(entries, log) {
		switch {
		case NameKey(s.name) == generalTable.Section:
			generalTable.read(s, cfg, log)
		case connectionTable.admits(s, log):
			cfg.add(s, log)
		case s.foreign:
			cfg.LeftOut = append(cfg.LeftOut, LeftOut{s.name, foreignText})
		}
	}
	return cfg, log.inOrder()
}

// add reads a connection's section. A connection with an error for all of its uses is left out.
func (k *Kafka) add(s *section, log *problemLog) {
	file := s.at.File
	if file == "" {
		file = log.file
	}
	c := connectionTable.filled()
	c.Name, c.File, c.Line = s.name, file, s.at.Line
	sc := connectionTable.read(s, c, log)
	why := sc.errors[Both]
	if why == "" && (c.GroupID == "" || sc.errors[Consuming] != "") {
		why = sc.errors[Producing]
	}
	if why != "" {
		k.LeftOut = append(k.LeftOut, LeftOut{c.Name, why})
		return
	}
	c.NoProducer, c.NoConsumer = sc.errors[Producing], sc.errors[Consuming]
	k.Connections = append(k.Connections, c)
}

// Why returns the first error of a left out connection, and false for any other name.
func (k *Kafka) Why(name string) (string, bool) {
	i := slices.IndexFunc(k.LeftOut, func(l LeftOut) bool { return NameKey(l.Name) == NameKey(name) })
	if i < 0 {
		return "", false
	}
	return k.LeftOut[i].Why, true
}

// foreignTypes are the types of another module of our name, with a section for every object of Kafka's.
var foreignTypes = []string{"cluster", "producer", "consumer", "topic"}

const foreignText = "belongs to another res_kafka, of 2020, which has a section for each cluster, producer, consumer and" +
	" topic; here one section holds all of a connection: type = connection, brokers = host:port and the options of" +
	" kafka.conf.sample"

// admits reports whether the section's type is the table's, and reports a problem for another type.
func (t *Table[T]) admits(s *section, log *problemLog) bool {
	var of *placedEntry
	for i := range s.entries {
		e := &s.entries[i]
		if !strings.EqualFold(e.Name, "type") {
			continue
		}
		if strings.EqualFold(e.Value, t.Type) && s.name != "" {
			return true
		}
		of = e
	}
	switch {
	case s.name == "":
		log.add(Warning, s.at, "", "", "a section has no name and is ignored; write ["+t.Example+"]")
	case of == nil:
		log.add(Warning, s.at, "", "", "has no type and is ignored; write type = "+t.Type+" for a connection")
	case slices.Contains(foreignTypes, strings.ToLower(of.Value)):
		s.foreign = true
		log.add(Error, *of, "type", of.Value, foreignText)
	default:
		log.add(Warning, *of, "type", of.Value, "is not a type of section, the section is ignored; write type = "+t.Type+
			" for a connection")
	}
	return false
}
