// Package consume implements a subscription of a connection: a member of a consumer group with batches,
// commits, rebalances, the leave of the group, and the watchdog of callbacks.
package consume
