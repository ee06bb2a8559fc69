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

// askSystem returns the C library's addresses of a host, if the file names sources unknown to Go, such as
// mDNS or LDAP. The library's own command asks these sources, because this program has no C. The result is
// empty without such a source, without the command, or without an answer within maxSystem.
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

// otherSources reports whether the file's line for host names has a source unknown to Go's resolver.
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
		action := false // "[NOTFOUND=return]", perhaps with blanks
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
