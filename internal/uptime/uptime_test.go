package uptime

import (
	"testing"
	"time"
)

func TestNow_TimePasses_GoesOn(t *testing.T) {
	before := Now()
	time.Sleep(10 * time.Millisecond)
	if passed := Now() - before; passed < 10*time.Millisecond || passed > time.Minute || before <= 0 {
		t.Errorf("%v passed since %v", passed, before)
	}
}

func TestBoot_Again_IsTheSame(t *testing.T) {
	if one, other := Boot(), Boot(); one == 0 || one != other {
		t.Errorf("boots %x and %x", one, other)
	}
}
