// Package config reads the configuration files of the project: what every option is called, means and accepts stands
// here in one table per section, from which everything else is made.
package config

import (
	"fmt"
	"slices"
	"strings"
)

// ParseKafka reads kafka.conf from the lines of Asterisk's loader. It reports every problem, in the order of the file;
// with an Error among them the configuration is nil. It reads the certificate files the options name and nothing
// else. Any goroutine; the entries are not kept.
func ParseKafka(entries []Entry) (*Kafka, []Problem) {
	log := &problemLog{file: KafkaFile.Name}
	cfg := generalTable.filled()
	sections := sectionsOf(entries)
	reportRepeated(sections, log)
	for _, s := range sections {
		if strings.EqualFold(s.name, generalTable.Section) {
			generalTable.read(s, cfg, log)
			continue
		}
		if !connectionTable.admits(s, log) {
			continue
		}
		file := s.at.File
		if file == "" {
			file = log.file
		}
		c := connectionTable.filled()
		c.Name, c.File, c.Line = s.name, file, s.at.Line
		connectionTable.read(s, c, log)
		cfg.Connections = append(cfg.Connections, c)
	}
	problems := log.inOrder()
	if HasErrors(problems) {
		return nil, problems
	}
	return cfg, problems
}

// reportRepeated refuses two sections of one name: which of them other modules would get is anybody's guess.
func reportRepeated(sections []*section, log *problemLog) {
	first := map[string]*section{}
	for _, s := range sections {
		before, repeated := first[s.name]
		if !repeated {
			first[s.name] = s
			continue
		}
		text := "is there twice"
		if before.at.Line > 0 {
			text += fmt.Sprintf(", first at line %d", before.at.Line)
		}
		log.add(Error, s.at, "", "", text+"; join the two, or write ["+s.name+"](+) to add to the first")
	}
}

// foreignTypes are those of another module of our name, which has a section for every object of Kafka's.
var foreignTypes = []string{"cluster", "producer", "consumer", "topic"}

// admits says whether the section is one of the table's, which its type tells, and reports when it says something else.
// A section whose type is only misspelt is admitted, so that the rest of its mistakes show too.
func (t *Table[T]) admits(s *section, log *problemLog) bool {
	if s.name == "" {
		log.add(Error, s.at, "", "", "a section has no name; write ["+t.Example+"]")
	}
	at := -1
	for i, e := range s.entries {
		if strings.EqualFold(e.Name, "type") {
			at = i
		}
	}
	if at < 0 {
		log.add(Error, s.at, "type", "", "is missing; write type = "+t.Type)
		return true
	}
	e := s.entries[at]
	switch {
	case strings.EqualFold(e.Value, t.Type):
	case slices.Contains(foreignTypes, strings.ToLower(e.Value)):
		log.add(Error, e, "type", e.Value, "belongs to another res_kafka, of 2020, which has a section for each cluster,"+
			" producer, consumer and topic; here one section holds all of a connection: type = "+t.Type+
			", brokers = host:port and the options of kafka.conf.sample")
		return false
	default:
		log.add(Error, e, "type", e.Value, "is not a type of section; write type = "+t.Type)
	}
	return true
}
