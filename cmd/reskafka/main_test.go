package main

import (
	"bytes"
	"slices"
	"strings"
	"testing"
)

func TestHelpNamesEveryCommand(t *testing.T) {
	for _, args := range [][]string{{"help"}, {"--help"}, {"-h"}} {
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), args, &stdout, &stderr); status != exitOK || stderr.Len() > 0 {
			t.Errorf("%v: status %d, stderr %q", args, status, &stderr)
		}
		for _, c := range commands {
			if !strings.Contains(stdout.String(), c.name) || !strings.Contains(stdout.String(), c.summary) {
				t.Errorf("%v does not tell about %s:\n%s", args, c.name, &stdout)
			}
		}
	}
}

func TestHelpOfACommandNamesItsFlags(t *testing.T) {
	for _, args := range [][]string{{"dev-broker", "--help"}, {"help", "dev-broker"}} {
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), args, &stdout, &stderr); status != exitOK || stderr.Len() > 0 {
			t.Errorf("%v: status %d, stderr %q", args, status, &stderr)
		}
		for _, flag := range []string{"--port", "--data-dir", "--partitions", "9092"} {
			if !strings.Contains(stdout.String(), flag) {
				t.Errorf("%v does not mention %s:\n%s", args, flag, &stdout)
			}
		}
	}
}

func TestMistakesOnTheCommandLine(t *testing.T) {
	cases := []struct {
		args []string
		want string // part of stderr
	}{
		{nil, "Usage: reskafka <command>"},
		{[]string{"dev-brokr"}, `unknown command "dev-brokr"`},
		{[]string{"help", "nothing"}, `unknown command "nothing"`},
		{[]string{"dev-broker", "--prt", "1"}, "-prt"},
		{[]string{"dev-broker", "--port", "x"}, `invalid value "x" for flag -port`},
		{[]string{"dev-broker", "--port", "70000"}, "--port 70000 is not between 0 and 65535"},
		{[]string{"dev-broker", "--port", "9092,70000"}, "--port 70000 is not between 0 and 65535"},
		{[]string{"dev-broker", "--port", "9092,"}, `invalid value "9092," for flag -port`},
		{[]string{"dev-broker", "--port", "9092,9093,9092"}, "--port 9092,9093,9092 names 9092 twice"},
		{[]string{"dev-broker", "--partitions", "0"}, "--partitions 0 is not at least 1"},
		{[]string{"dev-broker", "--swallow", "--data-dir", "x"}, "--swallow keeps nothing"},
		{[]string{"dev-broker", "--port", "0", "more"}, `unexpected argument "more"`},
	}
	for _, c := range cases {
		var stdout, stderr bytes.Buffer
		if status := run(t.Context(), c.args, &stdout, &stderr); status != exitUsage {
			t.Errorf("%v: status %d, want %d", c.args, status, exitUsage)
		}
		if !strings.Contains(stderr.String(), c.want) || stdout.Len() > 0 {
			t.Errorf("%v: stderr %q, stdout %q, want %q on stderr", c.args, &stderr, &stdout, c.want)
		}
	}
}

func TestCommandNamesAreUnique(t *testing.T) {
	var names []string
	for _, c := range commands {
		if slices.Contains(names, c.name) {
			t.Errorf("two commands are called %s", c.name)
		}
		names = append(names, c.name)
	}
}
