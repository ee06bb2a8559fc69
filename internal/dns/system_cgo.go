//go:build cgo

package dns

import "net"

func init() { system = net.DefaultResolver }
