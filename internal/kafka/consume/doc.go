// Package consume is one subscription of a connection: a member of a consumer group, its batches, commits, rebalances and leaving, and
// the watchdog of callbacks.
package consume
