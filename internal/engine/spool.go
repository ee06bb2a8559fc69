package engine

import (
	"errors"

	"reskafka/internal/config"
	"reskafka/internal/console"
)

// errNoSpool is what there is to say until connections have a spool.
var errNoSpool = errors.New("the spool is not built yet")

// Spools implements console.Env.
func (e *Engine) Spools() []console.SpoolStatus {
	var all []console.SpoolStatus
	for _, c := range e.inForce() {
		if settings := c.settings.Load(); settings != nil {
			all = append(all, spoolStatus(settings))
		}
	}
	return all
}

// Spool implements console.Env.
func (e *Engine) Spool(name string) (console.SpoolStatus, bool) {
	c, err := e.connection(name)
	if err != nil {
		return console.SpoolStatus{}, false
	}
	settings := c.settings.Load()
	if settings == nil {
		return console.SpoolStatus{}, false
	}
	return spoolStatus(settings), true
}

func spoolStatus(settings *config.Connection) console.SpoolStatus {
	return console.SpoolStatus{
		Name: settings.Name, Durability: settings.Durability, Dir: settings.SpoolDir, State: errNoSpool.Error(),
		MaxBytes: int64(settings.SpoolMaxMbytes) << 20,
	}
}

// RetrySpool implements console.Env.
func (e *Engine) RetrySpool(name string) (console.RetryResult, error) {
	_, err := e.connection(name)
	if err == nil {
		err = errNoSpool
	}
	return console.RetryResult{}, err
}

// PurgeSpool implements console.Env.
func (e *Engine) PurgeSpool(name string) (console.PurgeResult, error) {
	_, err := e.connection(name)
	if err == nil {
		err = errNoSpool
	}
	return console.PurgeResult{}, err
}
