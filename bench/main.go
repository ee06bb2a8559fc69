// Command bench measures what a call to ast_kafka_produce() costs the thread that makes it, in a real Asterisk, with a
// broker beside it on the same machine. `make bench` builds what it needs and runs it.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"reskafka/test/pbx"
)

// row is one load: payloads of bytes, keyed, from threads that together make perSecond calls; 0 = as many as they can.
type row struct {
	name              string
	bytes, perSecond  int
	seconds, threads  int
	connection, topic string // connection: the beginning of its name, the durability follows
}

var rows = []row{
	{"300/s, 1 thread", 300, 300, 30, 1, "bench", "steady"},
	{"2,000/s, 1 thread", 300, 2000, 10, 1, "bench", "busy"},
	{"2,000/s, 8 threads", 300, 2000, 10, 8, "bench", "busy8"},
	{"flat out, 1 thread", 300, 0, 2, 1, "flat", "flat"},
	{"flat out, 4 threads", 300, 0, 2, 4, "flat", "flat4"},
}

var durabilities = []string{"memory", "overflow", "disk"}

// kafkaConf gives each row a connection of each durability.
func kafkaConf(brokers string) string {
	var b strings.Builder
	for _, d := range durabilities {
		fmt.Fprintf(&b, "[bench-%s]\ntype = connection\nbrokers = %s\ndurability = %s\n\n", d, brokers, d)
		fmt.Fprintf(&b, "[flat-%s]\ntype = connection\nbrokers = %s\ndurability = %s\nqueue_buffering_max_messages = 1000000\n\n", d, brokers, d)
	}
	return b.String()
}

func main() {
	quick := flag.Bool("quick", false, "a tenth of the time for each row")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	if err := run(ctx, *quick); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, quick bool) error {
	root, build, install := os.Getenv("RES_KAFKA_ROOT"), os.Getenv("RES_KAFKA_BUILD"), os.Getenv("RES_KAFKA_INSTALL")
	if root == "" {
		return fmt.Errorf("RES_KAFKA_ROOT is not set: run this by `make bench`")
	}
	dir, err := os.MkdirTemp("", "rkb")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	broker, err := pbx.StartBroker(ctx, pbx.BrokerConfig{Command: filepath.Join(build, "reskafka"), Dir: filepath.Join(dir, "broker"), Partitions: 3})
	if err != nil {
		return err
	}
	defer func() { _ = broker.Stop() }()
	asterisk, err := pbx.New(pbx.Config{
		Dir: filepath.Join(dir, "pbx"), Root: root, Install: install,
		Modules: append(pbx.StockModules(), "res_kafka", "kafka_probe"),
		Files:   map[string]string{"kafka.conf": kafkaConf(broker.Address)},
	})
	if err != nil {
		return err
	}
	if err := asterisk.Start(ctx); err != nil {
		return err
	}
	defer func() { _ = asterisk.Stop(pbx.Now) }()

	version, _ := asterisk.CLI("core show version")
	fmt.Printf("%s\n%s, %d processors, %s\n\n", time.Now().Format(time.DateOnly), runtime.Version(), runtime.NumCPU(), strings.SplitN(version, " built", 2)[0])
	fmt.Println("Time inside ast_kafka_produce(), 300-byte payloads, keyed:")
	for _, r := range rows {
		if quick {
			r.seconds = max(1, r.seconds/10)
		}
		for _, d := range durabilities {
			printed, err := asterisk.CLI(fmt.Sprintf("kafka probe rate %s-%s %s-%s %d %d %d %d", r.connection, d, r.topic, d, r.bytes, r.perSecond, r.seconds, r.threads))
			if err != nil {
				return err
			}
			fmt.Printf("  %-20s %-9s %s\n", r.name, d, strings.TrimSpace(printed))
		}
	}
	return nil
}
