//go:build !race

package outbox

const poisoning = false

func poisonRecords([]Record) {}

func poisonBytes([]byte) {}
