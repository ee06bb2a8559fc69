package main

import (
	"strings"
	"testing"
)

func TestRenderRecord(t *testing.T) {
	text, err := renderRecord([]byte(`{"topic":"asterisk_cdr","partition":2,"offset":7,"tstype":"create","ts":0,` +
		`"broker":0,"headers":["hostname","pbx","version","22"],"key":"a-1","payload":"{\"src\":\"1\",\"n\":[]}"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{
		"topic      asterisk_cdr", "partition  2", "offset     7", "key        a-1",
		"header     hostname = pbx", "header     version = 22", "value      {", `             "src": "1",`,
	} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%q is missing in\n%s", line, text)
		}
	}
}

func TestRenderRecordWithoutKeyOrJSON(t *testing.T) {
	text, err := renderRecord([]byte(`{"topic":"demo","key":null,"payload":"hello world"}`))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range []string{"key        (none)", "value      hello world"} {
		if !strings.Contains(text, line+"\n") {
			t.Errorf("%q is missing in\n%s", line, text)
		}
	}
}

func TestRenderRecordThatIsNone(t *testing.T) {
	if _, err := renderRecord([]byte("% Reached end of topic")); err == nil {
		t.Error("no error")
	}
}
