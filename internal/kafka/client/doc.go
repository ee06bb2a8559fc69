// Package client is what all clients of a connection have in common: connections with their TLS, logins and reconnecting, the options of
// the client library, checks of every response, the state of the brokers for the console, and one sentence for each failure.
//
// It knows neither producers nor consumers: produce, consume and admin import it, and it imports none of them.
package client
