module wasm-go

go 1.26.0

require (
	github.com/tetratelabs/wazero v1.12.0
	go.opentelemetry.io/otel v1.47.0
)

require (
	github.com/cespare/xxhash/v2 v2.3.0 // indirect
	go.opentelemetry.io/otel/trace v1.47.0 // indirect
	golang.org/x/sys v0.44.0 // indirect
)
