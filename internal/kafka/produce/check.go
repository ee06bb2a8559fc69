package produce

import (
	"context"
	"fmt"

	"reskafka/internal/config"
	"reskafka/internal/kafka/client"
)

// CheckProducer returns NewProducer's error for connection c, without creating a client. CheckProducer reads
// the TLS files and touches no network.
func CheckProducer(c *config.Connection) error {
	d, err := client.NewDialer(c, context.Background(), &client.Status{}, nil)
	if err != nil {
		return fmt.Errorf("connection %s: %w", c.Name, err)
	}
	if _, err := client.Options(c, d, nil); err != nil {
		return fmt.Errorf("connection %s: %w", c.Name, err)
	}
	return nil
}
