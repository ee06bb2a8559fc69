// Package admin creates topics.
package admin
