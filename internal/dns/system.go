package dns

import (
	"context"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
)

// nameSources lists where the C library looks host names up.
const nameSources = "/etc/nsswitch.conf"

// askSystem returns the addresses that the C library finds for a host, if the file names sources that Go does not know, such as mDNS
// or LDAP. The library's own command asks them, because this program has no C in it. none = there is no such source, no such command
// or no answer within maxSystem.
func askSystem(ctx context.Context, host, sources string) []netip.Addr {
	if !otherSources(sources) || strings.HasPrefix(host, "-") {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, maxSystem)
	defer cancel()
	command := exec.CommandContext(ctx, "getent", "ahosts", host)
	command.WaitDelay = maxSystem
	out, err := command.Output()
	if err != nil {
		return nil
	}
	var addrs []netip.Addr
	for line := range strings.Lines(string(out)) { // "192.0.2.7      STREAM kafka.local", once for each type of socket
		text, _, _ := strings.Cut(line, " ")
		if addr, err := netip.ParseAddr(text); err == nil && !slices.Contains(addrs, addr) {
			addrs = append(addrs, addr)
		}
	}
	return addrs
}

// otherSources reports whether the file's line for host names has a source that Go's resolver does not know.
func otherSources(file string) bool {
	text, err := os.ReadFile(file)
	if err != nil {
		return false
	}
	for line := range strings.Lines(string(text)) {
		line, _, _ = strings.Cut(line, "#")
		names, found := strings.CutPrefix(strings.TrimSpace(line), "hosts:")
		if !found {
			continue
		}
		action := false // "[NOTFOUND=return]", maybe with blanks in it
		for _, name := range strings.Fields(names) {
			action = action || strings.HasPrefix(name, "[")
			if !action && name != "files" && name != "dns" {
				return true
			}
			action = action && !strings.HasSuffix(name, "]")
		}
	}
	return false
}
