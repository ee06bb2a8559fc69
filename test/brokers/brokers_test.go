package brokers

import "testing"

// rows are the rows of all files.
var rows []Row

// TestBrokers checks the outcome and the log lines of every row.
func TestBrokers(t *testing.T) {
	for i := range rows {
		row := &rows[i]
		t.Run(row.Name, func(t *testing.T) {
			t.Parallel()
			row.Check(t)
		})
	}
}
