package apache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// archiveSuffix is what files with an archive end in.
const archiveSuffix = ".jsa"

// Archive runs a node once, which leaves the classes that it has loaded in a file in the folder kafka, the one that
// scripts/provision-kafka made. From there on every node takes them from that file, laid out as Java wants them in memory
// (class data sharing), and starts in three fifths of the time; one whose Java cannot use it does without. name should tell
// which Java that was: archives of other names are removed.
func Archive(ctx context.Context, kafka, name string) error {
	dir, err := os.MkdirTemp("", "apache-kafka-")
	if err != nil {
		return fmt.Errorf("archiving classes: %w", err)
	}
	defer os.RemoveAll(dir)
	// Under another name in the same folder until it is complete.
	part := filepath.Join(kafka, name+".new")
	c, err := Start(ctx, Config{
		Dir: dir, Kafka: kafka, Listeners: []Listener{Plaintext, SSL, SASLPlaintext, SASLSSL, MutualTLS},
		Users: []User{{"alice", "secret"}}, SuperUsers: []string{"alice"}, archive: part,
	})
	if err != nil {
		return fmt.Errorf("archiving classes: %w", err)
	}
	err = errors.Join(c.Stop(ctx, 1), c.Close())
	others, _ := filepath.Glob(filepath.Join(kafka, "*"+archiveSuffix))
	if err == nil {
		err = os.Rename(part, filepath.Join(kafka, name+archiveSuffix))
	}
	if err != nil {
		return fmt.Errorf("archiving classes: %w", err)
	}
	for _, other := range others {
		if strings.TrimSuffix(filepath.Base(other), archiveSuffix) != name {
			// One that stays is used as little as it was.
			_ = os.Remove(other)
		}
	}
	return nil
}
