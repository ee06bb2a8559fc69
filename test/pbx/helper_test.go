package pbx

import (
	"context"
	"os/exec"
	"strconv"
)

func itoa(n int) string { return strconv.Itoa(n) }

func runScript(ctx context.Context, path string, args ...string) (string, error) {
	printed, err := exec.CommandContext(ctx, path, args...).Output()
	return string(printed), err
}
