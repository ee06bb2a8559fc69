package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"reskafka/internal/boundary"
	"reskafka/internal/host"
	"reskafka/internal/ingest"
	"reskafka/internal/memlimit"
	"reskafka/internal/serve"
)

// engineCommand is the process beside Asterisk. The module starts the process with the descriptors below.
var engineCommand = command{
	name:    "engine",
	summary: "Carry the records of an Asterisk; started by res_kafka.so, not by people",
	details: "res_kafka.so starts this command and hands over sockets and memory, so it does nothing when a person starts it.\n",
	setup: func(*flag.FlagSet) func(context.Context, environment) error {
		return func(context.Context, environment) error { return runEngine() }
	},
}

// The descriptors from the module. 0 is /dev/null, 1 and 2 are a pipe for the last words.
const (
	socketFD    = 3 // a stream socket
	controlFD   = 4 // the control memory
	slabsFD     = 5 // the file of the plain slabs
	wakeFD      = 6 // the eventfd of the ring's reader
	inheritedFD = 7 // first descriptor not from the module
)

// errByHand is the answer to a person.
var errByHand = usagef("this command is started by Asterisk's module res_kafka.so; there is nothing for you to start")

// runEngine serves a module and returns after the engine's end.
func runEngine() error {
	if kind, err := syscall.GetsockoptInt(socketFD, syscall.SOL_SOCKET, syscall.SO_TYPE); err != nil || kind != syscall.SOCK_STREAM {
		return errByHand
	}
	for fd := socketFD; fd < inheritedFD; fd++ {
		if err := syscall.Fstat(fd, new(syscall.Stat_t)); err != nil {
			return fmt.Errorf("descriptor %d, which res_kafka.so hands over: %w", fd, err)
		}
		syscall.CloseOnExec(fd)
	}
	signal.Ignore(syscall.SIGPIPE) // or the first line on standard error after Asterisk's end would end the engine
	signals := make(chan os.Signal, 1)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)

	faults := setUpProcess(memlimit.Read("").Bytes)
	if err := syscall.SetNonblock(socketFD, true); err != nil { // a close then ends a read
		return fmt.Errorf("the socket of res_kafka.so: %w", err)
	}
	server := serve.New(boundary.NewConn(os.NewFile(socketFD, "socket"), boundary.EngineSide))
	for _, fault := range faults {
		host.Logf(server.Log(), host.Debug, "%v", fault)
	}
	in, err := ingest.Open(controlFD, slabsFD, wakeFD, server.Log())
	if err != nil {
		return err
	}
	return server.Run(in, signals)
}
