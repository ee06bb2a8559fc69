module reskafka

go 1.26.0

// Public and private authorities have issued certificates with negative serial numbers, and OpenSSL accepts them.
godebug x509negativeserial=1

require (
	github.com/klauspost/compress v1.20.3
	github.com/twmb/franz-go v1.22.2
	github.com/twmb/franz-go/pkg/kadm v1.19.0
	github.com/twmb/franz-go/pkg/kfake v0.0.0-20260918054303-01f206a7e32c
	github.com/twmb/franz-go/pkg/kmsg v1.15.0
)

require github.com/pierrec/lz4/v4 v4.1.33
