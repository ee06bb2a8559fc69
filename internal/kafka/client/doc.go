// Package client has the common parts of all clients of a connection: connections with TLS, logins and
// reconnection, the options of the client library, checks of every response, the state of the brokers for the
// console, and one sentence for each failure.
//
// The packages produce, consume and admin import client. Client imports none of them.
package client
