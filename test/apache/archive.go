package apache

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// archiveSuffix is the suffix of archive files.
const archiveSuffix = ".jsa"

// Archive runs a node once to write its loaded classes to a file in the folder kafka, the folder of
// scripts/provision-kafka. Later nodes map the classes from this file (class data sharing) and start in three
// fifths of the time; a node with another Java ignores the file. name should identify the Java version:
// archives of other names are removed.
func Archive(ctx context.Context, kafka, name string) error {
	dir, err := os.MkdirTemp("", "apache-kafka-")
	if err != nil {
		return fmt.Errorf("archiving classes: %w", err)
	}
	defer os.RemoveAll(dir)
	// Under another name in the same folder until complete.
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
			// A remaining old archive is harmless.
			_ = os.Remove(other)
		}
	}
	return nil
}
