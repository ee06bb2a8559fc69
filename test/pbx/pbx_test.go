package pbx

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"
)

// testRoot returns the root for the test, or skips the test.
func testRoot(t *testing.T) string {
	t.Helper()
	root := os.Getenv("RES_KAFKA_ROOT")
	if root == "" {
		t.Skip("RES_KAFKA_ROOT is not set: run this with `make test-asterisk`, which fetches an Asterisk")
	}
	return root
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// start runs an Asterisk for the time of the test.
func start(t *testing.T, config Config) *PBX {
	t.Helper()
	config.Root = testRoot(t)
	config.Dir = t.TempDir()
	p, err := New(config)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(testContext(t)); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = p.Stop(Kill) })
	return p
}

func TestCallGoesThrough(t *testing.T) {
	p := start(t, Config{Files: map[string]string{
		"extensions.conf": "[test]\nexten => s,1,Verbose(0,linkedid is ${CHANNEL(linkedid)})\n same => n,Hangup()\n",
	}})
	if _, err := p.CLI("channel originate Local/s@test application Echo"); err != nil {
		t.Fatal(err)
	}
	line, err := p.WaitLog(testContext(t), regexp.MustCompile(`linkedid is \S`))
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(strings.Join(p.LogLines(), "\n"), line) {
		t.Errorf("LogLines lacks %q", line)
	}
	if err := p.Stop(Gracefully); err != nil {
		t.Error(err)
	}
	if err := p.Stop(Gracefully); err != nil {
		t.Errorf("stopping again: %v", err)
	}
}

func TestOnlyNamedModulesAreLoaded(t *testing.T) {
	p := start(t, Config{Modules: []string{"app_echo", "app_verbose"}})
	// The other modules are the core's.
	shown, err := p.CLI("module show like .so")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(shown, "2 modules loaded") {
		t.Errorf("module show says\n%s", shown)
	}
	if err := p.Stop(Now); err != nil {
		t.Error(err)
	}
}

func TestNothingIsAmissInAnEmptyAsterisk(t *testing.T) {
	p := start(t, Config{})
	for _, line := range p.LogLines() {
		if strings.Contains(line, "WARNING") || strings.Contains(line, "ERROR") {
			t.Errorf("logged %s", line)
		}
	}
}

func TestStartsAgainAfterBeingKilled(t *testing.T) {
	p := start(t, Config{})
	first := p.PID()
	if err := p.Stop(Kill); err != nil {
		t.Fatal(err)
	}
	if err := p.Crashed(); err != nil {
		t.Errorf("a kill of our own counts as a crash: %v", err)
	}
	if err := p.Start(testContext(t)); err != nil {
		t.Fatal(err)
	}
	if p.PID() == first {
		t.Errorf("both runs have process id %d", first)
	}
	if err := p.Stop(Now); err != nil {
		t.Error(err)
	}
}

func TestRestartsInTheSameProcess(t *testing.T) {
	p := start(t, Config{})
	pid := p.PID()
	for range 2 {
		if err := p.Restart(testContext(t)); err != nil {
			t.Fatal(err)
		}
	}
	if printed, err := p.CLI("core show uptime"); err != nil || !strings.Contains(printed, "System uptime") {
		t.Errorf("after a restart it answers %q, %v", printed, err)
	}
	if p.PID() != pid {
		t.Errorf("process %d has become %d", pid, p.PID())
	}
	if err := p.Stop(Now); err != nil {
		t.Error(err)
	}
}

func TestCrashIsReportedWithTheLog(t *testing.T) {
	p := start(t, Config{})
	if err := p.Crashed(); err != nil {
		t.Fatalf("while it runs: %v", err)
	}
	if err := syscall.Kill(p.PID(), syscall.SIGABRT); err != nil {
		t.Fatal(err)
	}
	if line, err := p.WaitLog(testContext(t), regexp.MustCompile("never logged")); err == nil {
		t.Errorf("WaitLog found %q", line)
	} else if errors.Is(err, context.DeadlineExceeded) {
		t.Error("WaitLog did not notice the end of Asterisk")
	}
	err := p.Crashed()
	if err == nil || !strings.Contains(err.Error(), "aborted") || !strings.Contains(err.Error(), "Asterisk Ready.") {
		t.Errorf("Crashed() = %v, want the signal and the log", err)
	}
	if err := p.Stop(Now); err == nil {
		t.Error("stopping a crashed Asterisk is no error")
	}
	if _, err := p.CLI("core show version"); err == nil {
		t.Error("a command of an Asterisk that is gone is no error")
	}
}

func TestStartThatFailsTellsWhy(t *testing.T) {
	p, err := New(Config{Root: testRoot(t), Dir: t.TempDir(), Files: map[string]string{
		"modules.conf": "[modules]\nautoload = no\nrequire = no_such_module.so\n",
	}})
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Start(testContext(t)); err == nil || !strings.Contains(err.Error(), "no_such_module") {
		t.Errorf("Start() = %v, want an error that names the module", err)
	}
}

func TestInstalledModulesAndDocumentationGoFirst(t *testing.T) {
	root := testRoot(t)
	install := t.TempDir()
	stock := firstMatch(root, "usr/lib/*/asterisk/modules/app_echo.so", "usr/lib/asterisk/modules/app_echo.so")
	modules := filepath.Join(install, filepath.Dir(stock))
	module, err := os.ReadFile(stock)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.MkdirAll(filepath.Join(modules, "res_kafka"), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(modules, "app_echo.so"), module, 0o755); err != nil {
		t.Fatal(err)
	}
	p := start(t, Config{Install: install, Modules: []string{"app_echo", "app_verbose"}})
	target, err := os.Readlink(filepath.Join(p.Dir(), "modules", "app_echo.so"))
	if err != nil || target != filepath.Join(modules, "app_echo.so") {
		t.Errorf("app_echo.so is %s (%v), want the installed one", target, err)
	}
	if _, err := os.Stat(filepath.Join(p.Dir(), "modules", "res_kafka")); err != nil {
		t.Error(err)
	}
	// Unreadable documentation would be an error here.
	if shown, err := p.CLI("core show application Echo"); err != nil || !strings.Contains(shown, "Synopsis") {
		t.Errorf("core show application Echo says %q, %v", shown, err)
	}
}

func TestModuleThatIsNowhere(t *testing.T) {
	_, err := New(Config{Root: testRoot(t), Dir: t.TempDir(), Modules: []string{"res_nothing"}})
	if !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "res_nothing.so") {
		t.Errorf("New() = %v", err)
	}
}

func TestPathTooLongForASocket(t *testing.T) {
	_, err := New(Config{Root: "/", Dir: filepath.Join(t.TempDir(), strings.Repeat("x", 100))})
	if err == nil || !strings.Contains(err.Error(), "shorter directory") {
		t.Errorf("New() = %v", err)
	}
}

func TestScripts(t *testing.T) {
	p := start(t, Config{})
	printed, err := runScript(testContext(t), filepath.Join(p.Dir(), "cli"), "core", "show", "version")
	if err != nil || !strings.HasPrefix(printed, "Asterisk ") || strings.Contains(printed, "option") {
		t.Errorf("cli printed %q, %v", printed, err)
	}
	printed, err = runScript(testContext(t), filepath.Join(p.Dir(), "kcat"), "-V")
	if err != nil || !strings.Contains(printed, "librdkafka") {
		t.Errorf("kcat printed %q, %v", printed, err)
	}
}

func TestKcatOfTheRoot(t *testing.T) {
	printed, err := Kcat(testContext(t), testRoot(t), "-V")
	if err != nil || !strings.Contains(printed, "librdkafka") {
		t.Errorf("kcat -V printed %q, %v", printed, err)
	}
	port, err := FreePort()
	if err != nil {
		t.Fatal(err)
	}
	if _, err := Kcat(testContext(t), testRoot(t), "-L", "-m", "1", "-b", "127.0.0.1:"+itoa(port)); err == nil {
		t.Error("listing a broker that is not there is no error")
	}
}

// TestLogLinesAreWhole verifies that an incomplete line is no line: a comparison of lines would fail on half
// a line.
func TestLogLinesAreWhole(t *testing.T) {
	p := &PBX{lines: newFollower(filepath.Join(t.TempDir(), "log"))}
	for _, test := range []struct{ written, want string }{{"", ""}, {"one\ntw", "one"}, {"one\ntwo\n", "one|two"}, {"on", ""}} {
		if err := os.WriteFile(p.lines.path, []byte(test.written), 0o600); err != nil {
			t.Fatal(err)
		}
		if got := strings.Join(p.LogLines(), "|"); got != test.want {
			t.Errorf("%q: %q, want %q", test.written, got, test.want)
		}
	}
}
