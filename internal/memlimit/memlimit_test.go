package memlimit

import (
	"os"
	"path/filepath"
	"testing"
)

func TestRead_EachHierarchy_LowestLimit(t *testing.T) {
	const meminfo = "MemTotal:        8388608 kB\nMemFree: 1 kB\n"
	const v2 = "30 24 0:26 / /sys/fs/cgroup rw - cgroup2 cgroup2 rw\n"
	const v1 = "31 24 0:27 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu\n32 24 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory\n"
	for name, c := range map[string]struct {
		files map[string]string
		want  int64
		by    string
	}{
		"nothing to be read": {nil, 0, ""},
		"no group":           {map[string]string{"proc/meminfo": meminfo}, 8 << 30, "the machine's memory"},
		"version 2": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": v2, "proc/self/cgroup": "0::/system.slice/asterisk.service\n",
			"sys/fs/cgroup/system.slice/asterisk.service/memory.max": "268435456\n",
		}, 256 << 20, "the memory control group (/sys/fs/cgroup/system.slice/asterisk.service/memory.max)"},
		"version 2, of a parent": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": v2, "proc/self/cgroup": "0::/system.slice/asterisk.service\n",
			"sys/fs/cgroup/system.slice/asterisk.service/memory.max": "max\n", "sys/fs/cgroup/system.slice/memory.max": "1000000\n",
		}, 1000000, "the memory control group (/sys/fs/cgroup/system.slice/memory.max)"},
		"version 2, reclaim above": {map[string]string{
			"proc/self/mountinfo": v2, "proc/self/cgroup": "0::/a\n", "sys/fs/cgroup/a/memory.max": "2000\n", "sys/fs/cgroup/a/memory.high": "1000\n",
		}, 1000, "the memory control group (/sys/fs/cgroup/a/memory.high)"},
		"version 2, in a container": {map[string]string{
			"proc/self/mountinfo": v2, "proc/self/cgroup": "0::/\n", "sys/fs/cgroup/memory.max": "5000\n",
		}, 5000, "the memory control group (/sys/fs/cgroup/memory.max)"},
		"version 1": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": v1, "proc/self/cgroup": "5:cpu:/x\n4:memory:/x\n0::/\n",
			"sys/fs/cgroup/memory/x/memory.limit_in_bytes": "268435456\n", "sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 256 << 20, "the memory control group (/sys/fs/cgroup/memory/x/memory.limit_in_bytes)"},
		"version 1, in a container": {map[string]string{
			"proc/self/mountinfo": "32 24 0:28 /docker/1234 /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory\n", "proc/self/cgroup": "4:memory:/docker/1234\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "7000\n",
		}, 7000, "the memory control group (/sys/fs/cgroup/memory/memory.limit_in_bytes)"},
		"no limit": {map[string]string{
			"proc/meminfo": meminfo, "proc/self/mountinfo": v1, "proc/self/cgroup": "4:memory:/\n",
			"sys/fs/cgroup/memory/memory.limit_in_bytes": "9223372036854771712\n",
		}, 8 << 30, "the machine's memory"},
		"odd files": {map[string]string{
			"proc/self/mountinfo": "one\n- cgroup2\n1 2 3 4 5 - cgroup2\n", "proc/self/cgroup": "0\n0::\n::\nx:memory\n",
		}, 0, ""},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for file, text := range c.files {
				path := filepath.Join(root, file)
				if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
					t.Fatal(err)
				}
				if err := os.WriteFile(path, []byte(text), 0o644); err != nil {
					t.Fatal(err)
				}
			}
			if got := Read(root); got != (Limit{c.want, c.by}) {
				t.Errorf("read %+v, want %d by %q", got, c.want, c.by)
			}
		})
	}
}
