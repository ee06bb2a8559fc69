package main

import (
	"fmt"
	"maps"
	"slices"
	"strings"
)

// settings are options of a connection by name.
type settings map[string]string

// common has the settings of every connection of both variants, at any defaults. The queue is large enough to
// refuse nothing flat out, because a refused call is short.
var common = settings{
	"acks":                         "-1",
	"enable_idempotence":           "no",
	"linger_ms":                    "5",
	"batch_num_messages":           "10000",
	"batch_size":                   "1000000",
	"compression_codec":            "none",
	"message_timeout_ms":           "300000",
	"queue_buffering_max_messages": "2000000",
	"queue_buffering_max_kbytes":   "2000000",
}

// ofVariant returns the options of our variant only. The reference has no disk.
func ofVariant(v variant) settings {
	switch v {
	case ours:
		return settings{"durability": "memory"}
	case disk:
		return settings{"durability": "disk", "spool_max_mbytes": "20000"}
	default:
		return nil
	}
}

// kafkaConf has a connection "bench" and as many "bench-0", "bench-1"… as are asked for, all alike.
func kafkaConf(brokers string, v variant, numbered int, more settings) string {
	all := settings{"type": "connection", "brokers": brokers}
	for _, s := range []settings{common, ofVariant(v), more} {
		maps.Copy(all, s)
	}
	var lines strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		fmt.Fprintf(&lines, "%s = %s\n", name, all[name])
	}
	var text strings.Builder
	for i := -1; i < numbered; i++ {
		name := connection
		if i >= 0 {
			name = fmt.Sprintf("%s-%d", connection, i)
		}
		fmt.Fprintf(&text, "[%s]\n%s\n", name, &lines)
	}
	return text.String()
}

// connection is the usual connection's name.
const connection = "bench"
