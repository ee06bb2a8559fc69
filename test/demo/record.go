package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"strings"
	"time"

	"reskafka/test/pbx"
)

// renderRecord renders a record for a reader: place, key, headers and value, with indented JSON.
func renderRecord(printed []byte) (string, error) {
	var record pbx.Record
	if err := json.Unmarshal(printed, &record); err != nil {
		return "", fmt.Errorf("reading kcat's output %q: %w", printed, err)
	}
	var text strings.Builder
	fmt.Fprintf(&text, "topic      %s\n", record.Topic)
	fmt.Fprintf(&text, "partition  %d\n", record.Partition)
	fmt.Fprintf(&text, "offset     %d\n", record.Offset)
	fmt.Fprintf(&text, "timestamp  %s\n", time.UnixMilli(record.Timestamp).Format(time.RFC3339Nano))
	fmt.Fprintf(&text, "key        %s\n", orNone(record.Key))
	for i := 0; i+1 < len(record.Headers); i += 2 {
		fmt.Fprintf(&text, "header     %s = %s\n", record.Headers[i], record.Headers[i+1])
	}
	value := orNone(record.Payload)
	var indented bytes.Buffer
	if json.Indent(&indented, []byte(value), "", "  ") == nil {
		value = indented.String()
	}
	fmt.Fprintf(&text, "value      %s\n", strings.ReplaceAll(value, "\n", "\n           "))
	return text.String(), nil
}

func orNone(text *string) string {
	if text == nil {
		return "(none)"
	}
	return *text
}
