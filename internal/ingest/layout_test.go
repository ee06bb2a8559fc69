package ingest

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"unsafe"

	"reskafka/internal/frame"
	"reskafka/test/writer"
)

// C and Go each declare the layouts of the shared memory: any difference would corrupt records.
func TestLayout_GoAndC_Alike(t *testing.T) {
	var c control
	at := func(member uintptr) uint64 { return uint64(member) }
	table := []struct {
		expression string
		want       uint64
	}{
		{"RESK_CONTROL_MAGIC", controlMagic},
		{"RESK_CONTROL_LAYOUT", controlLayout},
		{"RESK_GATES", gateCount},
		{"RESK_PROGRESS", progressCount},
		{"RESK_RING", ringEntries},
		{"RESK_AREAS", Areas},
		{"RESK_AREA_BYTES", AreaBytes},
		{"RESK_POOL_PLAIN", poolPlain},
		{"RESK_POOL_DURABLE", poolDurable},
		{"RESK_POOL_FILE", poolFile},
		{"sizeof(struct resk_control)", at(unsafe.Sizeof(c))},
		{"offsetof(struct resk_control, ring)", at(unsafe.Offsetof(c.ring))},
		{"offsetof(struct resk_control, gates)", at(unsafe.Offsetof(c.gates))},
		{"offsetof(struct resk_control, progress)", at(unsafe.Offsetof(c.progress))},
		{"offsetof(struct resk_control, areas)", at(unsafe.Offsetof(c.areas))},
		{"sizeof(struct resk_head)", at(unsafe.Sizeof(c.head))},
		{"offsetof(struct resk_head, magic)", at(unsafe.Offsetof(c.head.magic))},
		{"offsetof(struct resk_head, layout)", at(unsafe.Offsetof(c.head.layout))},
		{"offsetof(struct resk_head, ring)", at(unsafe.Offsetof(c.head.ring))},
		{"offsetof(struct resk_head, gates)", at(unsafe.Offsetof(c.head.gates))},
		{"offsetof(struct resk_head, progress)", at(unsafe.Offsetof(c.head.progress))},
		{"offsetof(struct resk_head, size)", at(unsafe.Offsetof(c.head.size))},
		{"offsetof(struct resk_head, usual_bytes)", at(unsafe.Offsetof(c.head.usualBytes))},
		{"sizeof(struct resk_ring)", at(unsafe.Sizeof(c.ring))},
		{"offsetof(struct resk_ring, put)", at(unsafe.Offsetof(c.ring.put))},
		{"offsetof(struct resk_ring, taken)", at(unsafe.Offsetof(c.ring.taken))},
		{"offsetof(struct resk_ring, asleep)", at(unsafe.Offsetof(c.ring.asleep))},
		{"offsetof(struct resk_ring, entries)", at(unsafe.Offsetof(c.ring.entries))},
		{"sizeof(struct resk_ring_entry)", at(unsafe.Sizeof(entry{}))},
		{"offsetof(struct resk_ring_entry, id)", at(unsafe.Offsetof(entry{}.id))},
		{"offsetof(struct resk_ring_entry, pool)", at(unsafe.Offsetof(entry{}.pool))},
		{"offsetof(struct resk_ring_entry, slab)", at(unsafe.Offsetof(entry{}.slab))},
		{"offsetof(struct resk_ring_entry, start)", at(unsafe.Offsetof(entry{}.start))},
		{"offsetof(struct resk_ring_entry, length)", at(unsafe.Offsetof(entry{}.length))},
		{"offsetof(struct resk_ring_entry, first)", at(unsafe.Offsetof(entry{}.first))},
		{"sizeof(struct resk_gate)", at(unsafe.Sizeof(Gate{}))},
		{"offsetof(struct resk_gate, open)", at(unsafe.Offsetof(Gate{}.Open))},
		{"offsetof(struct resk_gate, producer_id)", at(unsafe.Offsetof(Gate{}.producerID))},
		{"offsetof(struct resk_gate, producer_epoch)", at(unsafe.Offsetof(Gate{}.producerEpoch))},
		{"offsetof(struct resk_gate, cluster)", at(unsafe.Offsetof(Gate{}.cluster))},
		{"offsetof(struct resk_gate, dropped)", at(unsafe.Offsetof(Gate{}.Dropped))},
		{"offsetof(struct resk_gate, max_frames)", at(unsafe.Offsetof(Gate{}.MaxFrames))},
		{"offsetof(struct resk_gate, max_charge)", at(unsafe.Offsetof(Gate{}.MaxCharge))},
		{"offsetof(struct resk_gate, max_length)", at(unsafe.Offsetof(Gate{}.MaxLength))},
		{"offsetof(struct resk_gate, linger_ns)", at(unsafe.Offsetof(Gate{}.LingerNS))},
		{"offsetof(struct resk_gate, max_weight)", at(unsafe.Offsetof(Gate{}.MaxWeight))},
		{"offsetof(struct resk_gate, shared)", at(unsafe.Offsetof(Gate{}.Shared))},
		{"offsetof(struct resk_gate, memory)", at(unsafe.Offsetof(Gate{}.Memory))},
		{"offsetof(struct resk_gate, done_frames)", at(unsafe.Offsetof(Gate{}.DoneFrames))},
		{"offsetof(struct resk_gate, done_charge)", at(unsafe.Offsetof(Gate{}.DoneCharge))},
		{"offsetof(struct resk_gate, follows)", at(unsafe.Offsetof(Gate{}.Follows))},
		{"offsetof(struct resk_gate, admitted)", at(unsafe.Offsetof(Gate{}.Admitted))},
		{"offsetof(struct resk_gate, handed)", at(unsafe.Offsetof(Gate{}.Handed))},
		{"offsetof(struct resk_gate, unshared)", at(unsafe.Offsetof(Gate{}.Unshared))},
		{"sizeof(struct resk_progress)", at(unsafe.Sizeof(Progress{}))},
		{"offsetof(struct resk_progress, delivered)", at(unsafe.Offsetof(Progress{}.delivered))},
		{"offsetof(struct resk_progress, hurry)", at(unsafe.Offsetof(Progress{}.hurry))},

		{"sizeof(struct stage_frame)", frame.HeaderSize},
		{"offsetof(struct stage_frame, size)", 0},
		{"offsetof(struct stage_frame, length)", frame.HeaderLength},
		{"offsetof(struct stage_frame, state)", frame.HeaderState},
		{"offsetof(struct stage_frame, charge)", frame.HeaderCharge},
		{"STAGE_FRAME_READY", frame.Ready},
		{"STAGE_FRAME_DONE", frame.Done},
		{"STAGE_FRAME_STORED", frame.Stored},
		{"sizeof(struct stage_slab)", frame.SlabHeadSize},
		{"offsetof(struct stage_slab, magic)", 0},
		{"offsetof(struct stage_slab, layout)", frame.SlabLayout},
		{"offsetof(struct stage_slab, frames)", frame.SlabFrames},
		{"offsetof(struct stage_slab, size)", frame.SlabSize},
		{"offsetof(struct stage_slab, stage)", frame.SlabStage},
		{"offsetof(struct stage_slab, first)", frame.SlabFirst},
		{"offsetof(struct stage_slab, label)", frame.SlabLabel},
		{"offsetof(struct stage_slab, whole)", frame.SlabWhole},
		{"STAGE_SLAB_MAGIC", frame.SlabMagic},
		{"STAGE_SLAB_LAYOUT", frame.SlabLayoutNumber},
		{"STAGE_SLAB_BYTES", frame.SlabBytes},
		{"STAGE_GRANULE", frame.SlabGranule},

		{"sizeof(struct resk_frame_head)", frame.HeadSize},
		{"offsetof(struct resk_frame_head, accepted_ns)", 0},
		{"offsetof(struct resk_frame_head, source)", frame.HeadSource},
		{"offsetof(struct resk_frame_head, topic_length)", frame.HeadTopicLength},
		{"offsetof(struct resk_frame_head, key_length)", frame.HeadKeyLength},
		{"offsetof(struct resk_frame_head, value_length)", frame.HeadValueLength},
		{"offsetof(struct resk_frame_head, field_count)", frame.HeadFieldCount},
		{"sizeof(struct resk_field_head)", frame.FieldSize},
		{"offsetof(struct resk_field_head, name_length)", 0},
		{"offsetof(struct resk_field_head, value_length)", frame.FieldValueLength},
		{"offsetof(struct resk_field_head, kind)", frame.FieldKind},
		{"RESK_NULL", frame.Null},
		{"RESK_FIELD_REPORT", frame.KindReport},
		{"sizeof(struct resk_report_to)", frame.ReportSize},
	}
	var program strings.Builder
	program.WriteString("#include <stdio.h>\n#include <stddef.h>\n#include \"boundary/shared.h\"\n#include \"boundary/frame.h\"\nint main(void)\n{\n")
	for _, row := range table {
		fmt.Fprintf(&program, "\tprintf(\"%%llu\\n\", (unsigned long long) (%s));\n", row.expression)
	}
	fmt.Fprintf(&program, "\tfputs(STAGE_SLABS_FILE, stdout);\n\treturn 0;\n}\n")
	dir := t.TempDir()
	source, binary := filepath.Join(dir, "main.c"), filepath.Join(dir, "main")
	if err := os.WriteFile(source, []byte(program.String()), 0o600); err != nil {
		t.Fatal(err)
	}
	writer.Compile(t, binary, source)
	out, err := exec.Command(binary).Output()
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(string(out), "\n")
	for i, row := range table {
		if got := lines[i]; got != fmt.Sprint(row.want) {
			t.Errorf("%s is %s in C and %d in Go", row.expression, got, row.want)
		}
	}
	if got := lines[len(table)]; got != slabsName {
		t.Errorf("STAGE_SLABS_FILE is %q in C and %q in Go", got, slabsName)
	}
}
