//go:build race

package engine

func init() { forgetful = true }
