package client

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/twmb/franz-go/pkg/kerr"

	"reskafka/internal/config"
)

var update = flag.Bool("update", false, "rewrite the golden files")

func allWords() []words { return slices.Concat(codeWords, otherWords) }

// example fills a row with recognizable arguments.
func (w *words) example() Sentence {
	s := Sentence{row: w}
	for i := range strings.Count(w.cause+w.remedy, "%s") {
		s.args = append(s.args, fmt.Sprintf("<%d>", i+1))
	}
	if _, ok := w.of.(*kerr.Error); ok {
		s.said = "<the broker's own message>"
	}
	if w.address {
		s = Facts{brokers: []string{"kafka1:9092"}}.WithAddress("kafka1:9092", s)
	}
	return s
}

// TestWords_AllRows_AreAsAgreed keeps every user-visible sentence in one file, so a change is visible.
func TestWords_AllRows_AreAsAgreed(t *testing.T) {
	var got strings.Builder
	for _, w := range allWords() {
		name := strings.ReplaceAll(w.of.Error(), "\n", " ")
		if code, ok := w.of.(*kerr.Error); ok {
			name = code.Message
		}
		if w.purpose != "" {
			name += " to " + string(w.purpose)
		}
		fmt.Fprintf(&got, "%s\n    %s\n", name, w.example())
	}
	const golden = "testdata/words.golden"
	if *update {
		if err := os.WriteFile(golden, []byte(got.String()), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(golden)
	if err != nil {
		t.Fatal(err)
	}
	if got.String() != string(want) {
		t.Errorf("the sentences differ from %s; go test ./internal/kafka/client -run TestWords -update rewrites it. Got:\n%s", golden, &got)
	}
}

// notAsked are the codes that answer no request of this package, by subject.
var notAsked = []*kerr.Error{
	kerr.StaleControllerEpoch, kerr.InvalidTransactionTimeout, kerr.TransactionCoordinatorFenced, kerr.ReassignmentInProgress,
	kerr.NoReassignmentInProgress, kerr.TopicDeletionDisabled, kerr.ElectionNotNeeded, kerr.GroupSubscribedToTopic,
	kerr.TransactionalIDNotFound, kerr.GroupDeletionFailed, kerr.IneligibleReplica,
	// delegation tokens and credentials
	kerr.DelegationTokenAuthDisabled, kerr.DelegationTokenNotFound, kerr.DelegationTokenOwnerMismatch,
	kerr.DelegationTokenRequestNotAllowed, kerr.DelegationTokenAuthorizationFailed, kerr.DelegationTokenExpired,
	kerr.InvalidPrincipalType, kerr.UnacceptableCredential, kerr.ResourceNotFound, kerr.DuplicateResource,
	// between brokers and controllers
	kerr.InconsistentVoterSet, kerr.InvalidUpdateVersion, kerr.FeatureUpdateFailed, kerr.SnapshotNotFound, kerr.PositionOutOfRange,
	kerr.DuplicateBrokerRegistration, kerr.BrokerIDNotRegistered, kerr.MismatchedEndpointType, kerr.UnsupportedEndpointType,
	kerr.UnknownControllerID, kerr.InvalidRegistration, kerr.InvalidVoterKey, kerr.DuplicateVoter, kerr.VoterNotFound,
	// telemetry, share groups, streams, static members of the newer kind of group
	kerr.UnknownSubscriptionID, kerr.TelemetryTooLarge, kerr.InvalidRecordState, kerr.ShareSessionNotFound,
	kerr.InvalidShareSessionEpoch, kerr.ShareSessionLimitReached, kerr.FencedStateEpoch, kerr.StreamsInvalidTopology,
	kerr.StreamsInvalidTopologyEpoch, kerr.StreamsTopologyFenced, kerr.UnreleasedInstanceID,
}

// TestWords_EveryCode_HasASentence demands a sentence for each possible error code of a broker, with an
// option or a remedy unless the failure ends without help.
func TestWords_EveryCode_HasASentence(t *testing.T) {
	asked := 0
	for number := int16(-1); number < 1000; number++ {
		err := kerr.TypedErrorForCode(number)
		if err == nil || err.Code != number {
			continue
		}
		row, asking := rowOf(err, ""), !slices.Contains(notAsked, err)
		switch {
		case err.Code >= 134 && row == nil: // newer than Kafka's released versions, and of administration only
		case row == nil && asking:
			t.Errorf("%s has no sentence", err.Message)
		case row != nil && !asking:
			t.Errorf("%s has a sentence and is listed as never answered", err.Message)
		case row != nil && !err.Retriable && row.option == "" && row.remedy == "":
			t.Errorf("%s does not pass by itself, and its sentence has neither option nor remedy", err.Message)
		}
		if asking {
			asked++
		}
	}
	if asked < 70 {
		t.Errorf("only %d codes were looked at", asked)
	}
}

// TestWords_OtherRows checks that each failure of this package has a row, and that rows differ.
func TestWords_OtherRows_AreComplete(t *testing.T) {
	source, err := os.ReadFile("words_table.go")
	if err != nil {
		t.Fatal(err)
	}
	declared := regexp.MustCompile(`(?m)^\t\w+ +Situation = "(.*)"$`).FindAllSubmatch(source, -1)
	for _, match := range declared {
		if rowOf(Situation(match[1]), "") == nil {
			t.Errorf("the failure %q has no row", match[1])
		}
	}
	if len(declared) < 20 {
		t.Errorf("%d failures found in the source", len(declared))
	}
	seen := map[string]bool{}
	for _, w := range allWords() {
		key := w.of.Error() + " " + string(w.purpose)
		if seen[key] {
			t.Errorf("two rows for %s", key)
		}
		seen[key] = true
	}
}

// TestWords_Options_Exist checks that options named in sentences exist in kafka.conf.
func TestWords_Options_Exist(t *testing.T) {
	known := map[string]bool{}
	for _, section := range config.KafkaFile.Sections {
		for _, o := range section.Options {
			known[o.Name] = true
		}
	}
	for _, w := range allWords() {
		for _, name := range regexp.MustCompile(`\b[a-z]+(_[a-z]+)+\b`).FindAllString(w.cause+" "+w.option+" "+w.remedy, -1) {
			if !known[name] && name != "sasl_plaintext" && name != "sasl_ssl" && name != "__consumer_offsets" && name != "consumer_offsets" &&
				name != "ip_local_port_range" {
				t.Errorf("the sentence of %q names %s, which is no option", w.of, name)
			}
		}
	}
}

// TestWords_LibraryErrors_AreTheLibrarys checks that the client library still uses the texts by which its
// errors are recognized.
func TestWords_LibraryErrors_AreTheLibrarys(t *testing.T) {
	out, err := exec.Command("go", "list", "-f", "{{.Dir}}", "github.com/twmb/franz-go/pkg/kgo").Output()
	if err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(strings.TrimSpace(string(out)), "*.go"))
	if err != nil || len(files) == 0 {
		t.Fatal(err)
	}
	var source strings.Builder
	for _, file := range files {
		text, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		source.Write(text)
	}
	for _, w := range allWords() {
		if text, ok := w.of.(libraryError); ok && !strings.Contains(source.String(), string(text)) {
			t.Errorf("the library has no error %q", text)
		}
	}
}

// TestWords_BrokersMessage checks that a sentence includes the broker's own message, cut to a limit, and that
// the throttle's key does not.
func TestWords_BrokersMessage_IsRepeated(t *testing.T) {
	message := "Timestamp 12 is out of range"
	err := AnswerOf(kerr.InvalidTimestamp.Code, &message, ToProduce)
	if text := err.Error(); !strings.HasPrefix(text, "INVALID_TIMESTAMP: ") || !strings.Contains(text, "; the broker says: "+message+" (") {
		t.Errorf("%s", text)
	}
	if !errors.Is(err, kerr.InvalidTimestamp) || Describe(err).Key() == err.Error() || strings.Contains(Describe(err).Key(), message) {
		t.Errorf("%v, key %s", err, Describe(err).Key())
	}
	long := strings.Repeat("ä", 2*maxSaid)
	if text := AnswerOf(1, &long, ToProduce).Error(); len(text) > 2*maxSaid || !strings.Contains(text, "ä...") {
		t.Errorf("%d bytes: %s", len(text), text)
	}
	library := fmt.Errorf("%w: token expired", kerr.SaslAuthenticationFailed) // in the form of kgo
	if text := Describe(library).String(); !strings.Contains(text, "; the broker says: token expired (see sasl_username") {
		t.Errorf("%s", text)
	}
	if err := AnswerOf(0, &message, ToProduce); err != nil {
		t.Errorf("no error is %v", err)
	}
	if text := AnswerOf(999, &message, ToProduce).Error(); !strings.Contains(text, "error code 999") || !strings.Contains(text, message) {
		t.Errorf("%s", text)
	}
	// A row for one purpose precedes the row for all.
	if a, b := AnswerOf(29, nil, ToConsume).Error(), AnswerOf(29, nil, ToProduce).Error(); !strings.Contains(a, "read the topic") || a == b {
		t.Errorf("%q, %q", a, b)
	}
}

// TestWords_Address_SaysWhereItComesFrom guards that the sentence blames the cluster for a name known only to
// the cluster's network.
func TestWords_Address_SaysWhereItComesFrom(t *testing.T) {
	f := Facts{brokers: []string{"kafka1:9092"}}
	refused := Describe(syscall.ECONNREFUSED)
	if text := f.WithAddress("kafka1:9092", refused).String(); !strings.Contains(text, "(see brokers; ") {
		t.Errorf("configured: %s", text)
	}
	if text := f.WithAddress("inner:9092", refused).String(); !strings.Contains(text, "the cluster itself gives this address: see advertised.listeners") {
		t.Errorf("given by the cluster: %s", text)
	}
	if text := f.WithAddress("inner:9092", Describe(kerr.NotCoordinator)).String(); strings.Contains(text, "advertised") {
		t.Errorf("not about the address: %s", text)
	}
}
