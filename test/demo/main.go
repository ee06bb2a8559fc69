// Command demo shows res_kafka at work: a development broker, a private Asterisk with the modules, a call,
// and the call's record in another Kafka client. It builds and installs into build/private and touches no
// installed or running Asterisk.
//
//	go run ./test/demo         run it; with KEEP=1 in the environment broker and Asterisk are left running
//	go run ./test/demo stop    end the processes of KEEP=1
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"
)

// timeLimit is the limit of a demo, including the first build and its downloads.
const timeLimit = 15 * time.Minute

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, timeLimit)
	defer cancel()
	var err error
	switch {
	case len(os.Args) == 1:
		err = (&demo{started: time.Now(), keep: os.Getenv("KEEP") == "1"}).run(ctx)
	case len(os.Args) == 2 && os.Args[1] == "stop":
		err = stopKept()
	default:
		err = errors.New("usage: demo [stop]")
	}
	if err != nil {
		fmt.Fprintf(os.Stderr, "\ndemo: %v\n", err)
		os.Exit(1)
	}
}
