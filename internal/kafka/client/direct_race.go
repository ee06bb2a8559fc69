//go:build race

package client

// hidden disables directConn: the race detector learns the order of two goroutines from their visible reads
// and writes of a socket, and tests have a broker in their own process.
const hidden = false
