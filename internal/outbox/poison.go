//go:build !race

package outbox

const poisoning = false

func poisonRecords([]entry) {}

func poisonBytes([]byte) {}
