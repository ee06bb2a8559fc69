package kafka

import (
	"context"
	"fmt"

	"reskafka/internal/config"
)

// CheckProducer says what NewProducer would refuse of connection c, without making a client. It reads the TLS files and
// touches no network.
func CheckProducer(c *config.Connection) error {
	d, err := newDialer(c, context.Background(), &Status{}, nil)
	if err != nil {
		return fmt.Errorf("connection %s: %w", c.Name, err)
	}
	if _, err := clientOptions(c, d, nil); err != nil {
		return fmt.Errorf("connection %s: %w", c.Name, err)
	}
	return nil
}
