// Command demo shows res_kafka at work: a development broker, a private Asterisk with the modules, one call, and the
// record of that call as another Kafka client reads it. It builds and installs into build/private and touches no
// Asterisk that is installed or running.
//
//	go run ./test/demo         run it; with KEEP=1 in the environment broker and Asterisk are left running
//	go run ./test/demo stop    end what KEEP=1 left
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

// timeLimit is how long a demo may take, the first build and its downloads included.
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
