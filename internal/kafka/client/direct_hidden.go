//go:build !race

package client

// hidden enables directConn.
const hidden = true
